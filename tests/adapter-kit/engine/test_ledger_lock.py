"""Whoever waits for the lock of an attempt reads it as the holder of the lock has left it, whatever the plan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from tests.builders import queued_attempt
from tests.patience import eventually

import adapter_kit
from adapter_kit.engine import rows
from chassis.postgres.pool import Pool, migrate, open_pool
from contracts.ids import job_id_for

ROWS = 3_000


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=4) as opened:
        yield opened


async def waits_for_a_lock(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("without", [["seqscan"], ["indexscan"], ["indexscan", "bitmapscan"]], ids=",".join)
async def test_a_locked_attempt_is_the_last_that_was_committed(pool: Pool, mode: str, without: list[str]) -> None:
    attempts = [queued_attempt(job_id_for("default", str(n)), datetime.now(UTC)) for n in range(ROWS)]
    await pool.fetch(rows.INSERT, *rows.inserted_columns([(attempt, None) for attempt in attempts]))
    await pool.execute("ANALYZE attempts")
    changed, deleted, untouched = sorted(attempt.attempt_id for attempt in attempts)[:3]
    async with pool.acquire() as first, pool.acquire() as second, second.transaction():
        async with first.transaction():
            await first.fetch(rows.LOCK, [changed, deleted])
            for kind in without:
                await second.execute(f"SET LOCAL enable_{kind} = off")
            await second.execute(f"SET LOCAL plan_cache_mode = {mode}")
            waiting = asyncio.create_task(second.fetch(rows.LOCK, [changed, deleted, untouched, "unknown"]))
            await eventually(lambda: waits_for_a_lock(pool))
            await first.execute("UPDATE attempts SET traceparent = 'new', body = '{}' WHERE attempt_id = $1", changed)
            await first.execute("DELETE FROM attempts WHERE attempt_id = $1", deleted)
        found = {row["attempt_id"]: (row["traceparent"], row["body"] == "{}") for row in await waiting}
        assert found == {changed: ("new", True), untouched: (None, False)}


async def test_the_time_is_told_although_no_attempt_is_locked(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        [row] = await connection.fetch(rows.LOCK, ["unknown"])
        assert (row["now"], row["attempt_id"]) == (await connection.fetchval("SELECT now()"), None)
