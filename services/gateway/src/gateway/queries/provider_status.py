"""The status of the providers, from the views of the adapters and the log sink; no provider is called."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import asyncpg

from chassis.postgres.pool import TRANSIENT
from contracts.generation import Provider
from contracts.providers.registry import PROVIDERS
from contracts.providers.spec import ProviderSpec
from gateway.queries.database import SHARED_LIMIT_S, VIEW_MISSING, Database
from gateway.queries.errors import ReadModelUnavailable
from gateway.queries.single_flight import SingleFlight

STALE_AFTER: Final = timedelta(seconds=60)
"""Reports of the adapters, and results of this process, that are older are not used."""
WINDOW_S: Final = 900.0
"""Seconds that the counts and latencies of ended attempts cover."""

_HEALTH = "SELECT * FROM {schema}.v_health"
_PROBE = "SELECT * FROM {schema}.v_free_probe"
_BREAKERS = "SELECT * FROM {schema}.v_gates ORDER BY scope"
_LOAD = "SELECT * FROM {schema}.v_load"
_CALLBACKS = "SELECT * FROM {schema}.v_callbacks"
_ENDED = """
SELECT provider, endpoint, state, error_kind, count(*) AS attempts FROM log_sink.v_attempts
WHERE finished_at > now() - make_interval(secs => $1) GROUP BY provider, endpoint, state, error_kind
"""
_LATENCIES = """
SELECT provider, endpoint, percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
    ORDER BY extract(epoch FROM finished_at - submitted_at)::float8
) AS seconds
FROM log_sink.v_attempts
WHERE finished_at > now() - make_interval(secs => $1) AND state = 'succeeded' AND submitted_at IS NOT NULL
GROUP BY GROUPING SETS ((provider), (provider, endpoint))
"""

Rows = Sequence[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class ReportedHealth:
    """The health of a provider as its adapter reports it: of the last credential probe, or of the breaker if open."""

    ok: bool
    error: str | None
    checked_at: datetime


def health_error(provider: Provider, health: ReportedHealth | None, now: datetime) -> str | None:
    """Why the provider is unhealthy; None if it is healthy. A report older than 60 s counts as a failure.

    `now` and `checked_at` are by the database's clock.
    """
    service = PROVIDERS[provider].service
    if health is None:
        return f"no report from {service} yet"
    if now - health.checked_at > STALE_AFTER:
        return f"no report from {service} since {health.checked_at.isoformat(timespec='seconds')}"
    return None if health.ok else health.error or "the provider does not accept the key"


@dataclass(frozen=True, slots=True)
class _Health:
    read_at: float
    """By this process's monotonic clock."""
    errors: Mapping[Provider, str | None]


class HealthReader:
    """Reads the health views of the enabled providers' adapters, about twice per second at most."""

    def __init__(self, database: Database, enabled: Sequence[Provider]) -> None:
        self._database = database
        self._enabled = enabled
        self._last: _Health | None = None
        self._fresh = SingleFlight(self._read_all, within_s=SHARED_LIMIT_S)

    async def problems(self) -> Mapping[Provider, str | None]:
        """Why each enabled provider is unhealthy; None for the healthy ones.

        While the database is unavailable, the last result is returned for 60 s. Raises ReadModelUnavailable after that.
        """
        try:
            return (await self._fresh.get()).errors
        except TRANSIENT as error:
            last = self._last
            age_s = 0.0 if last is None else time.monotonic() - last.read_at
            if last is None or age_s > STALE_AFTER.total_seconds():
                raise ReadModelUnavailable("whether the providers accept our key") from error
        note = f"(as of {age_s:.0f} s ago: the database is unavailable)"
        return {provider: error and f"{error} {note}" for provider, error in last.errors.items()}

    async def _read_all(self) -> _Health:
        async with self._database.lease() as lease:
            began = time.monotonic()
            now = await lease.connection.fetchval("SELECT now()")
            errors: dict[Provider, str | None] = {}
            for provider in self._enabled:
                spec = PROVIDERS[provider]
                # The schema's name comes from the spec; the provider is a parameter.
                sql = f"SELECT status, error, checked_at FROM {spec.schema}.v_health WHERE provider = $1"  # noqa: S608
                try:
                    row = await lease.connection.fetchrow(sql, provider)
                except VIEW_MISSING:
                    row = None
                health = None if row is None else ReportedHealth(row["status"] == "ok", row["error"], row["checked_at"])
                errors[provider] = health_error(provider, health, now)
        self._last = _Health(began, errors)
        return self._last


@dataclass(frozen=True, slots=True)
class AdapterRows:
    """The rows of one adapter's views; all empty if the adapter has not been started yet."""

    health: Rows
    probe: Rows
    breakers: Rows
    load: Rows
    callbacks: Rows


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """The status of all providers at one time."""

    as_of: datetime
    adapters: Mapping[Provider, AdapterRows]
    ended: Rows
    """The number of ended attempts by provider, endpoint, state and kind of failure."""
    latencies: Rows
    """The latencies p50 and p95 in seconds, by provider, and by provider and endpoint."""


class ProviderStatusReader:
    """Reads the status of the providers, about twice per second at most."""

    def __init__(self, database: Database) -> None:
        self._fresh = SingleFlight(partial(_read_all, database), within_s=SHARED_LIMIT_S)

    async def read(self) -> ProviderStatus:
        """The status of all providers. Raises ReadModelUnavailable."""
        try:
            return await self._fresh.get()
        except TRANSIENT as error:
            raise ReadModelUnavailable("how the providers do") from error


async def _read_all(database: Database) -> ProviderStatus:
    async with database.lease() as lease:
        as_of: datetime = await lease.connection.fetchval("SELECT now()")
    (ended, latencies), *adapters = await asyncio.gather(
        _read(database, (_ENDED, WINDOW_S), (_LATENCIES, WINDOW_S)),
        *(_adapter_rows(database, spec) for spec in PROVIDERS.values()),
    )
    by_provider = {provider: AdapterRows(*rows) for provider, rows in zip(PROVIDERS, adapters, strict=True)}
    return ProviderStatus(as_of, by_provider, ended, latencies)


async def _adapter_rows(database: Database, spec: ProviderSpec) -> list[Rows]:
    queries = (_HEALTH, _PROBE, _BREAKERS, _LOAD, _CALLBACKS)
    return await _read(database, *((sql.format(schema=spec.schema),) for sql in queries))


async def _read(database: Database, *queries: tuple[object, ...]) -> list[Rows]:
    """The results of the queries, in order, from one snapshot; all are empty if a view does not exist."""
    try:
        async with database.lease() as lease, lease.transaction(isolation="repeatable_read", readonly=True):
            return [await lease.connection.fetch(str(sql), *values) for sql, *values in queries]
    except VIEW_MISSING:
        return [[] for _ in queries]
