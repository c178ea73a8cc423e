"""The heartbeat is there before the adapter is ready, and goes on through an outage of the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import asyncpg
import pytest_asyncio
from tests.conftest import EndSessions
from tests.patience import eventually

import adapter_kit
from adapter_kit.heartbeat import Heartbeat
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=4) as opened:
        yield opened


def heartbeat(pool: Pool, silent_s: float) -> Heartbeat:
    return Heartbeat("fal", pool, Runtime("fal-adapter", make_telemetry("fal-adapter", None)), silent_s)


async def beat_at(pool: Pool) -> datetime | None:
    found: datetime | None = await pool.fetchval("SELECT beat_at FROM v_heartbeat WHERE provider = 'fal'")
    return found


async def beats_after(pool: Pool, before: datetime | None) -> None:
    async def later() -> bool:
        now = await beat_at(pool)
        return now is not None and (before is None or now > before)

    await eventually(later, 20)


async def test_it_is_written_before_the_block_and_again_while_it_lasts(pool: Pool) -> None:
    async with heartbeat(pool, silent_s=3_600).running():
        assert await beat_at(pool) is not None
    async with heartbeat(pool, silent_s=0.3).running():
        await beats_after(pool, await beat_at(pool))
        await beats_after(pool, await beat_at(pool))


async def test_an_adapter_that_starts_again_is_heard_of_at_once(pool: Pool) -> None:
    await pool.execute("INSERT INTO heartbeat VALUES ('fal', now() - interval '1 day')")
    async with heartbeat(pool, silent_s=3_600).running():
        assert await pool.fetchval("SELECT now() - beat_at < interval '1 hour' FROM v_heartbeat")


async def test_it_goes_on_after_the_database_was_away(pool: Pool, database_url: str, end_sessions: EndSessions) -> None:
    async with heartbeat(pool, silent_s=0.3).running():
        connection = await asyncpg.connect(database_url)
        await end_sessions(connection)
        await connection.close()
        await beats_after(pool, await beat_at(pool))
        await beats_after(pool, await beat_at(pool))
