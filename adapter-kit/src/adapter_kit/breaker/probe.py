"""The credential probe: a query without cost whether the provider responds and accepts the key.

Its result is stored for the gateway. One replica at a time sends it, and more often while a breaker is open for a
reason that it can confirm or clear. The results of paid runs are in the breakers and take precedence: an accepted key
does not show that the balance is sufficient.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never

from adapter_kit.breaker.store import BreakerStore
from adapter_kit.log_events import LedgerEvent
from adapter_kit.port.outcomes import KeyAccepted, KeyRefused, NoAnswer, ProbeOutcome
from adapter_kit.port.provider import Provider
from chassis.observability.logs import get_logger
from chassis.postgres.limits import LOOP_LIMIT_S, bounded, transaction
from chassis.postgres.pool import TRANSIENT, Connection, Pool
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime
from contracts.failures import FAILURES
from contracts.text import error_in_words

LOOK_EVERY_S: Final = 1.0
"""Seconds between two checks whether a probe is due; one is due at once after a breaker has opened."""
PROBE_LIMIT_S: Final = 10.0
TURN_S: Final = PROBE_LIMIT_S + 5.0
JITTER: Final = 0.1

_AT_ONCE = """
INSERT INTO free_probe (provider, held_until, next_at) VALUES ($1, now(), now())
ON CONFLICT (provider) DO UPDATE SET next_at = now()
"""
_TAKE_TURN = """
UPDATE free_probe SET held_until = now() + make_interval(secs => $2)
WHERE provider = $1 AND held_until <= now() AND (next_at <= now() OR EXISTS (
    SELECT FROM breakers WHERE state = 'open' AND asked_at IS NULL AND shut_for = ANY($3)
))
RETURNING now() AS taken_at, held_until
"""
_END_TURN = """
UPDATE free_probe SET held_until = now(), next_at = now() + make_interval(secs => $3)
WHERE provider = $1 AND held_until = $2 RETURNING now()
"""
_NEXT_IN = "UPDATE free_probe SET next_at = now() + make_interval(secs => $2) WHERE provider = $1"
_WRITE = """
INSERT INTO health AS h
    (provider, status, error, since, checked_at, concurrent_runs, submits_per_minute, key_refused)
VALUES ($1, $2, $3, now(), now(), $4, $5, $6)
ON CONFLICT (provider) DO UPDATE SET status = excluded.status, error = excluded.error, checked_at = now(),
    concurrent_runs = excluded.concurrent_runs, submits_per_minute = excluded.submits_per_minute,
    key_refused = excluded.key_refused,
    since = CASE WHEN h.status = excluded.status THEN h.since ELSE now() END
"""


@dataclass(frozen=True, slots=True)
class ProbeInterval:
    """Seconds between two credential probes."""

    every_s: float
    shut_every_s: float
    """While a breaker is open for a reason that the probe can confirm or clear."""


@dataclass(frozen=True, slots=True)
class _Turn:
    taken_at: datetime
    held_until: datetime


class CredentialProbe:
    """Probes the provider, updates its breakers, and stores the result."""

    def __init__(
        self,
        provider: Provider,
        pool: Pool,
        runtime: Runtime,
        probe_endpoint: str,
        breakers: BreakerStore,
        interval: ProbeInterval,
    ) -> None:
        self._provider = provider
        self._pool = pool
        self._runtime = runtime
        self._endpoint = probe_endpoint
        self._breakers = breakers
        self._interval = interval
        self._log = get_logger("adapter_kit.breaker.probe")

    def running(self) -> AbstractAsyncContextManager[None]:
        """Send probes for as long as the block lasts."""
        return background(self._runtime, "the credential probe", self._run())

    async def _run(self) -> None:
        scheduled = False
        while True:
            try:
                if not scheduled:
                    # The key may have changed with the restart.
                    async with bounded(self._pool, LOOP_LIMIT_S) as connection:
                        await connection.execute(_AT_ONCE, self._provider.name)
                    scheduled = True
                await self.probe_if_due()
            except TRANSIENT as problem:
                self._log.warning(LedgerEvent.PROVIDER_HEALTH_NOT_WRITTEN, error=repr(problem))
            if not await self._runtime.pause(_jittered(LOOK_EVERY_S)):
                return

    async def probe_if_due(self) -> bool:
        """Send a probe if one is due and no other replica is sending it; returns whether a result was stored."""
        kinds = [kind.value for kind, traits in FAILURES.items() if traits.probed_first]
        async with bounded(self._pool, LOOP_LIMIT_S) as connection:
            row = await connection.fetchrow(_TAKE_TURN, self._provider.name, TURN_S, kinds)
        if row is None:
            return False
        turn = _Turn(row["taken_at"], row["held_until"])
        outcome = await self._probe()
        async with transaction(self._pool, LOOP_LIMIT_S) as connection:
            return await self._write(connection, turn, outcome)

    async def _write(self, connection: Connection, turn: _Turn, outcome: ProbeOutcome) -> bool:
        name = self._provider.name
        now = await connection.fetchval(_END_TURN, name, turn.held_until, _jittered(self._interval.every_s))
        if now is None:
            return False  # The lease expired, and another replica took over.
        if await self._breakers.record_probe(connection, outcome, turn.taken_at, now):
            await connection.execute(_NEXT_IN, name, _jittered(self._interval.shut_every_s))
        error, limits = _error_of(outcome), self._breakers.limits
        caps = limits.concurrent, limits.per_minute
        refused = isinstance(outcome, KeyRefused)
        await connection.execute(_WRITE, name, "fail" if error else "ok", error, *caps, refused)
        return True

    async def _probe(self) -> ProbeOutcome:
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                return await self._provider.probe(self._endpoint)
        except Exception as error:  # noqa: BLE001 - a failed probe is a result
            return NoAnswer(error_in_words(error))


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)


def _error_of(outcome: ProbeOutcome) -> str | None:
    match outcome:
        case KeyAccepted():
            return None
        case KeyRefused(failure):
            return failure.message
        case NoAnswer(reason):
            return reason
        case _:
            assert_never(outcome)
