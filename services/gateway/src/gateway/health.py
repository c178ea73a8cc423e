"""Whether the providers accept our keys, as the adapters last wrote it down; asking costs nothing at a provider."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from chassis.database import Pool
from contracts.generation import PROVIDERS, Provider
from contracts.topics import adapter_of
from gateway.reads import AWAY

STALE_AFTER: Final = timedelta(seconds=60)
CACHE_S: Final = 1.0
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
    """Reads each adapter's health view, at most once a second."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._news: dict[Provider, News] = {}
        self._read_at = float("-inf")
        self._turn = asyncio.Lock()

    async def problems(self, now: datetime) -> dict[Provider, str | None]:
        """What is wrong with each provider, in words; None for those that are well."""
        async with self._turn:
            if time.monotonic() - self._read_at > CACHE_S:
                await asyncio.gather(*(self._read(provider) for provider in PROVIDERS))
                self._read_at = time.monotonic()
        return {provider: verdict(provider, self._news.get(provider), now) for provider in PROVIDERS}

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
