"""Which adapters are silent: when each was last heard of, read from the adapters' views and kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Final

import asyncpg

from chassis.observability.logs import get_logger
from chassis.postgres.limits import bounded
from chassis.postgres.pool import TRANSIENT, Connection, Pool
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime
from contracts.generation import Provider
from contracts.providers.registry import PROVIDERS
from orchestrator import store
from orchestrator.decisions.remaining_candidates import NOT_ENABLED, OFF, Silent
from orchestrator.log_events import OrchestratorEvent
from orchestrator.metrics import ADAPTER_SILENT

READ_EVERY_S: Final = 3.0
READ_SOON_S: Final = 0.5
"""The same while an adapter is silent, so that jobs that wait for it go on soon after it is back."""
READ_LIMIT_S: Final = 5.0
_UNREADABLE: tuple[type[Exception], ...] = (*TRANSIENT, asyncpg.PostgresError)
_PRESENT: Final = """
SELECT provider FROM unnest($1::text[], $2::text[]) AS known (provider, view) WHERE to_regclass(view) IS NOT NULL
"""
_NOW: Final = "SELECT now() AS now, NULL AS provider, NULL::timestamptz AS beat_at"
# Both names come from the provider's specification.
_BEAT_AT: Final = "SELECT now(), '{provider}', (SELECT max(beat_at) FROM {schema}.v_heartbeat)"
_log = get_logger("orchestrator.silence")


@dataclass(frozen=True, slots=True)
class _Reading:
    """The result of one query."""

    now: datetime
    beat_at: Mapping[Provider, datetime | None]


class Silence:
    """The silent adapters, and the providers that are not enabled.

    Nobody counts as silent while the database cannot be read, and for as long as an adapter may be silent after that:
    the adapters could not write then either.
    """

    def __init__(self, pool: Pool, runtime: Runtime, providers: Sequence[Provider], silent_s: float) -> None:
        """`providers` are enabled; `silent_s`: the seconds after which an adapter that is not heard of is silent."""
        self._pool = pool
        self._runtime = runtime
        self._silent_s = silent_s
        self._providers = tuple(providers)
        self._disabled: Silent = {each: NOT_ENABLED for each in PROVIDERS if each not in self._providers}
        self._silent: Mapping[Provider, datetime | None] = dict.fromkeys(self._providers)
        """All of them before the first reading, so that those that it finds count as heard of again."""
        self._present: set[Provider] = set()
        """The providers whose adapters have a view. Others have never been started, or are older than the view."""
        self._told: frozenset[Provider] = frozenset()
        self._wake_until: float | None = None
        self._distrusted_until = 0.0
        self._reading = asyncio.Lock()
        self._readings = 0
        runtime.warns(self._warning)

    async def current(self) -> Silent:
        """The silent adapters. Those that are silent as far as is known are looked up again, since they may be back."""
        if self._silent:
            begun = self._readings
            async with self._reading:
                # Whoever began to wait before a reading began shares its result.
                if self._readings <= begun + 1:
                    await self._read()
        return {**self._disabled, **self._silent}

    def running(self, woken: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Read every few seconds for as long as the block lasts. `woken` is called once waiting jobs were made due."""
        return background(self._runtime, "the watch over the adapters", self._run(woken))

    async def _run(self, woken: Callable[[], None]) -> None:
        while True:
            async with self._reading:
                await self._read()
            if self._wake_until is not None:
                await self._wake_waiting(woken, self._wake_until)
            if not await self._runtime.pause(READ_SOON_S if self._silent else READ_EVERY_S):
                return

    async def _wake_waiting(self, woken: Callable[[], None], until: float) -> None:
        begun = monotonic()
        try:
            async with bounded(self._pool, READ_LIMIT_S) as connection:
                await store.wake_waiting(connection)
        except TRANSIENT as error:
            _log.warning(OrchestratorEvent.ADAPTERS_NOT_READ, error=repr(error))
            return
        # Another adapter may have been heard of meanwhile.
        if begun >= until and self._wake_until == until:
            self._wake_until = None
        woken()

    async def _read(self) -> None:
        try:
            async with bounded(self._pool, READ_LIMIT_S) as connection:
                reading = await _read(connection, tuple(PROVIDERS), self._present)
        except _UNREADABLE as error:
            _log.warning(OrchestratorEvent.ADAPTERS_NOT_READ, error=repr(error))
            self._present.clear()
            self._distrusted_until = monotonic() + self._silent_s
            self._silent, self._disabled = {}, dict.fromkeys(self._disabled, NOT_ENABLED)
            return
        finally:
            self._readings += 1
        of_all = self._silent_in(reading)
        silent = {provider: beat_at for provider, beat_at in of_all.items() if provider in self._providers}
        self._disabled = {provider: OFF if provider in of_all else NOT_ENABLED for provider in self._disabled}
        if self._silent.keys() - silent.keys():
            # More than once, since another transaction may be deciding on a job by what was known before.
            self._wake_until = monotonic() + READ_EVERY_S
        self._silent = silent
        self._tell(reading)

    def _silent_in(self, reading: _Reading) -> Mapping[Provider, datetime | None]:
        if monotonic() < self._distrusted_until:
            return {}
        return {
            provider: beat_at
            for provider, beat_at in reading.beat_at.items()
            if beat_at is None or (reading.now - beat_at).total_seconds() > self._silent_s
        }

    def _tell(self, reading: _Reading) -> None:
        for provider in self._providers:
            ADAPTER_SILENT.labels(provider).set(provider in self._silent)
        for provider in self._silent.keys() - self._told:
            beat_at = self._silent[provider]
            age_s = None if beat_at is None else round((reading.now - beat_at).total_seconds())
            _log.warning(OrchestratorEvent.ADAPTER_SILENT, provider=provider, silent_s=age_s)
        for provider in self._told - self._silent.keys():
            _log.info(OrchestratorEvent.ADAPTER_HEARD, provider=provider)
        self._told = frozenset(self._silent)

    def _warning(self) -> str | None:
        if not self._silent:
            return None
        names = " and ".join(PROVIDERS[provider].service for provider in self._silent)
        return f"not heard of: {names}; no job is sent there"


async def _read(connection: Connection, providers: Sequence[Provider], present: set[Provider]) -> _Reading:
    """When each adapter was last heard of; those whose views are known to exist are in `present`, which grows."""
    if absent := [provider for provider in providers if provider not in present]:
        found = await connection.fetch(_PRESENT, absent, [_view(provider) for provider in absent])
        present.update(row["provider"] for row in found)
    selects = [_BEAT_AT.format(provider=each, schema=PROVIDERS[each].schema) for each in providers if each in present]
    rows = await connection.fetch(" UNION ALL ".join((_NOW, *selects)))
    beat_at = {row["provider"]: row["beat_at"] for row in rows if row["provider"] is not None}
    return _Reading(rows[0]["now"], {provider: beat_at.get(provider) for provider in providers})


def _view(provider: Provider) -> str:
    return f"{PROVIDERS[provider].schema}.v_heartbeat"
