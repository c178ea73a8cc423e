"""Health: whether the provider answers and takes the key, asked for free, and kept where the gateway reads it.

What paid runs say of the provider is in its gate, and outweighs a probe: one that is content with the key knows nothing
of the balance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, assert_never

from adapter_kit.outcomes import KeyAccepted, KeyRefused, NoAnswer, ProbeOutcome
from adapter_kit.provider import Provider
from chassis.database import TRANSIENT, Pool
from chassis.logs import get_logger
from chassis.runtime import Runtime

PROBE_EVERY_S: Final = 15.0

_WRITE = """
INSERT INTO health AS h (provider, status, error, since, checked_at) VALUES ($1, $2, $3, now(), now())
ON CONFLICT (provider) DO UPDATE SET status = excluded.status, error = excluded.error, checked_at = now(),
    since = CASE WHEN h.status = excluded.status THEN h.since ELSE now() END
"""


class Health:
    """Probes the provider, and writes what it said."""

    def __init__(self, provider: Provider, pool: Pool, runtime: Runtime, probe_endpoint: str) -> None:
        self._provider = provider
        self._pool = pool
        self._runtime = runtime
        self._endpoint = probe_endpoint
        self._log = get_logger("adapter_kit.health")

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Probe and write for as long as the block lasts."""
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(self._watch())
            self._runtime.must_live(lambda: "the provider's health watch" if watcher.done() else None)
            try:
                yield
            finally:
                watcher.cancel()

    async def _watch(self) -> None:
        while True:
            error = _said(await self._probe())
            try:
                await self._pool.execute(_WRITE, self._provider.name, "fail" if error else "ok", error)
            except TRANSIENT as problem:
                self._log.warning("health not written", error=repr(problem))
            if not await self._runtime.pause(PROBE_EVERY_S):
                return

    async def _probe(self) -> ProbeOutcome:
        try:
            async with asyncio.timeout(10):
                return await self._provider.probe(self._endpoint)
        except Exception as error:  # noqa: BLE001 - a probe that fails in any way is news, not an accident
            return NoAnswer(f"{type(error).__name__}: {error}")


def _said(outcome: ProbeOutcome) -> str | None:
    match outcome:
        case KeyAccepted():
            return None
        case KeyRefused(failure):
            return failure.message
        case NoAnswer(reason):
            return reason
        case _:
            assert_never(outcome)
