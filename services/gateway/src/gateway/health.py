"""Whether the providers accept our keys, as the adapters last wrote it down; asking costs nothing at a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from chassis.database import Pool
from contracts.generation import PROVIDERS, Provider
from contracts.topics import adapter_of
from gateway.fresh import Fresh
from gateway.reads import AWAY

STALE_AFTER: Final = timedelta(seconds=60)
_LIMIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class News:
    """What an adapter last said of its provider."""

    ok: bool
    error: str | None
    checked_at: datetime


def verdict(provider: Provider, news: News | None, now: datetime) -> str | None:
    """What is wrong with the provider, in words; None if it is well. No news for 60 s is bad news."""
    if news is None:
        return f"no news from {adapter_of(provider)} yet"
    if now - news.checked_at > STALE_AFTER:
        return f"no news from {adapter_of(provider)} since {news.checked_at.isoformat(timespec='seconds')}"
    return None if news.ok else news.error or "the provider does not accept the key"


class HealthReader:
    """Reads each adapter's health view, at most twice a second or so."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._news: dict[Provider, News] = {}
        self._fresh = Fresh(self._read_all)

    async def problems(self, now: datetime) -> dict[Provider, str | None]:
        """What is wrong with each provider, in words; None for those that are well."""
        news = await self._fresh.get()
        return {provider: verdict(provider, news.get(provider), now) for provider in PROVIDERS}

    async def _read_all(self) -> Mapping[Provider, News]:
        await asyncio.gather(*(self._read(provider) for provider in PROVIDERS))
        return self._news

    async def _read(self, provider: Provider) -> None:
        schema = adapter_of(provider).replace("-", "_")
        # The schema's name comes from the map, the provider travels as a parameter.
        sql = f"SELECT status, error, checked_at FROM {schema}.v_health WHERE provider = $1"  # noqa: S608
        try:
            async with asyncio.timeout(_LIMIT_S):
                row = await self._pool.fetchrow(sql, provider)
        except AWAY:
            return  # What was last heard stands until it is too old.
        if row is not None:
            self._news[provider] = News(row["status"] == "ok", row["error"], row["checked_at"])
