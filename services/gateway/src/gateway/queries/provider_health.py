"""Whether the providers accept our keys, as the adapters last wrote it down; asking costs nothing at a provider."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from chassis.postgres.pool import TRANSIENT
from contracts.generation import PROVIDERS, Provider
from contracts.topics import adapter_of
from gateway.queries.database import NOT_MADE, SHARED_LIMIT_S, Database
from gateway.queries.single_flight import SingleFlight

STALE_AFTER: Final = timedelta(seconds=60)


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
        return f"no news from {adapter_of(provider)} yet"
    if now - news.checked_at > STALE_AFTER:
        return f"no news from {adapter_of(provider)} since {news.checked_at.isoformat(timespec='seconds')}"
    return None if news.ok else news.error or "the provider does not accept the key"


class HealthUnknown(Exception):
    """The database cannot be asked, and what it said last is too old to be told."""


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

        While the database is away, what it said last stands for 60 s. Raises HealthUnknown after that.
        """
        try:
            return (await self._fresh.get()).wrong
        except TRANSIENT as error:
            last = self._last
            age_s = 0.0 if last is None else time.monotonic() - last.at
            if last is None or age_s > STALE_AFTER.total_seconds():
                raise HealthUnknown from error
        known = f"(as of {age_s:.0f} s ago: the database is away)"
        return {provider: wrong and f"{wrong} {known}" for provider, wrong in last.wrong.items()}

    async def _read_all(self) -> _Heard:
        async with self._database.asked() as lease:
            began = time.monotonic()
            now = await lease.connection.fetchval("SELECT now()")
            wrong: dict[Provider, str | None] = {}
            for provider in PROVIDERS:
                # The schema's name comes from the map, the provider travels as a parameter.
                schema = adapter_of(provider).replace("-", "_")
                sql = f"SELECT status, error, checked_at FROM {schema}.v_health WHERE provider = $1"  # noqa: S608
                try:
                    row = await lease.connection.fetchrow(sql, provider)
                except NOT_MADE:
                    row = None
                news = None if row is None else News(row["status"] == "ok", row["error"], row["checked_at"])
                wrong[provider] = verdict(provider, news, now)
        self._last = _Heard(began, wrong)
        return self._last
