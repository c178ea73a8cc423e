"""What PostgreSQL knows of the providers, from the adapters and the log sink; asking costs nothing at a provider."""

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
from gateway.queries.database import NOT_MADE, SHARED_LIMIT_S, Database
from gateway.queries.errors import ReadModelUnavailable
from gateway.queries.single_flight import SingleFlight

STALE_AFTER: Final = timedelta(seconds=60)
WINDOW_S: Final = 900.0

_HEALTH = "SELECT * FROM {schema}.v_health"
_PROBE = "SELECT * FROM {schema}.v_free_probe"
_GATES = "SELECT * FROM {schema}.v_gates ORDER BY scope"
_LOAD = "SELECT * FROM {schema}.v_load"
_CALLBACKS = "SELECT * FROM {schema}.v_callbacks"
_ENDS = """
SELECT provider, endpoint, state, error_kind, count(*) AS attempts FROM log_sink.v_attempts
WHERE finished_at > now() - make_interval(secs => $1) GROUP BY provider, endpoint, state, error_kind
"""
_PACE = """
SELECT provider, endpoint, percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
    ORDER BY extract(epoch FROM finished_at - submitted_at)::float8
) AS seconds
FROM log_sink.v_attempts
WHERE finished_at > now() - make_interval(secs => $1) AND state = 'succeeded' AND submitted_at IS NOT NULL
GROUP BY GROUPING SETS ((provider), (provider, endpoint))
"""

Rows = Sequence[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class News:
    """What an adapter last said of its provider."""

    ok: bool
    error: str | None
    checked_at: datetime


def verdict(provider: Provider, news: News | None, now: datetime) -> str | None:
    """What is wrong with the provider, in words; None if it is well. A probe older than 60 s counts as failed.

    `now` is the database's, as is the time of the news.
    """
    if news is None:
        return f"no news from {PROVIDERS[provider].service} yet"
    if now - news.checked_at > STALE_AFTER:
        return f"no news from {PROVIDERS[provider].service} since {news.checked_at.isoformat(timespec='seconds')}"
    return None if news.ok else news.error or "the provider does not accept the key"


@dataclass(frozen=True, slots=True)
class _Heard:
    at: float
    """By this process's monotonic clock."""
    wrong: Mapping[Provider, str | None]


class HealthReader:
    """Reads the adapters' health views, at most twice a second or so."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last: _Heard | None = None
        self._fresh = SingleFlight(self._read_all, within_s=SHARED_LIMIT_S)

    async def problems(self) -> Mapping[Provider, str | None]:
        """What is wrong with each provider, in words; None for those that are well.

        While the database is away, what it said last stands for 60 s. Raises ReadModelUnavailable after that.
        """
        try:
            return (await self._fresh.get()).wrong
        except TRANSIENT as error:
            last = self._last
            age_s = 0.0 if last is None else time.monotonic() - last.at
            if last is None or age_s > STALE_AFTER.total_seconds():
                raise ReadModelUnavailable("whether the providers accept our key") from error
        known = f"(as of {age_s:.0f} s ago: the database is away)"
        return {provider: wrong and f"{wrong} {known}" for provider, wrong in last.wrong.items()}

    async def _read_all(self) -> _Heard:
        async with self._database.asked() as lease:
            began = time.monotonic()
            now = await lease.connection.fetchval("SELECT now()")
            wrong: dict[Provider, str | None] = {}
            for provider, spec in PROVIDERS.items():
                # The schema's name comes from the spec, the provider travels as a parameter.
                sql = f"SELECT status, error, checked_at FROM {spec.schema}.v_health WHERE provider = $1"  # noqa: S608
                try:
                    row = await lease.connection.fetchrow(sql, provider)
                except NOT_MADE:
                    row = None
                news = None if row is None else News(row["status"] == "ok", row["error"], row["checked_at"])
                wrong[provider] = verdict(provider, news, now)
        self._last = _Heard(began, wrong)
        return self._last


@dataclass(frozen=True, slots=True)
class Told:
    """What one adapter tells of its provider; nothing, where it has not been started yet."""

    health: Rows
    probe: Rows
    gates: Rows
    load: Rows
    callbacks: Rows


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is known of the providers at one time."""

    as_of: datetime
    told: Mapping[Provider, Told]
    ends: Rows
    """How many attempts ended, by provider, endpoint, state and kind of failure."""
    pace: Rows
    """Two seconds' values each, p50 and p95: by provider, and by provider and endpoint."""


class ProviderStatusReader:
    """Reads what PostgreSQL knows of the providers, at most twice a second or so."""

    def __init__(self, database: Database) -> None:
        self._fresh = SingleFlight(partial(_read_all, database), within_s=SHARED_LIMIT_S)

    async def read(self) -> Seen:
        """All there is to know. Raises ReadModelUnavailable."""
        try:
            return await self._fresh.get()
        except TRANSIENT as error:
            raise ReadModelUnavailable("how the providers do") from error


async def _read_all(database: Database) -> Seen:
    async with database.asked() as lease:
        as_of: datetime = await lease.connection.fetchval("SELECT now()")
    (ends, pace), *told = await asyncio.gather(
        _read(database, (_ENDS, WINDOW_S), (_PACE, WINDOW_S)), *(_told(database, spec) for spec in PROVIDERS.values())
    )
    return Seen(as_of, {provider: Told(*rows) for provider, rows in zip(PROVIDERS, told, strict=True)}, ends, pace)


async def _told(database: Database, spec: ProviderSpec) -> list[Rows]:
    questions = (_HEALTH, _PROBE, _GATES, _LOAD, _CALLBACKS)
    return await _read(database, *((sql.format(schema=spec.schema),) for sql in questions))


async def _read(database: Database, *questions: tuple[object, ...]) -> list[Rows]:
    """The answers of one moment, in order; all are empty where the views are not there."""
    try:
        async with database.asked() as lease, lease.transaction(isolation="repeatable_read", readonly=True):
            return [await lease.connection.fetch(str(sql), *values) for sql, *values in questions]
    except NOT_MADE:
        return [[] for _ in questions]
