"""Retention on a real PostgreSQL: in batches, by one replica at a time, without blocking the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import timedelta

import pytest
import pytest_asyncio
from tests.patience import eventually

from chassis.observability.telemetry import make_telemetry
from chassis.postgres import retention
from chassis.postgres.pool import ONE_PLAN, Connection, Pool, open_pool
from chassis.postgres.retention import RetentionTask, RetentionWorker, delete_rows_task
from chassis.runtime.runtime import Runtime
from chassis.settings.service import LEAST_ROW_RETENTION_DAYS, ServiceSettings, WrongSettings, load_settings
from contracts.messages.requests import LONGEST_DEADLINE_S
from contracts.topics import DAY_S, TOPICS

KEEP = timedelta(days=30)
DELETE = """
DELETE FROM things WHERE id IN (
    SELECT id FROM things WHERE made_at < now() - $1::interval ORDER BY made_at LIMIT {limit}
)
"""


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "public", max_size=4) as opened:
        await opened.execute("CREATE TABLE things (id serial PRIMARY KEY, made_at timestamptz NOT NULL)")
        yield opened


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("toy", make_telemetry("toy", None))


async def make(pool: Pool, count: int, days: int) -> None:
    await pool.execute(
        "INSERT INTO things (made_at) SELECT now() - make_interval(days => $2) FROM generate_series(1, $1)", count, days
    )


async def left(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM things"))


async def test_a_batch_is_found_by_the_index_however_large_the_table_is(database_url: str, runtime: Runtime) -> None:
    async with open_pool(database_url, "public") as pool:
        await pool.execute("CREATE TABLE things (id serial PRIMARY KEY, made_at timestamptz NOT NULL)")
        await pool.execute("ALTER TABLE things SET (autovacuum_enabled = false)")
        await make(pool, 300_000, days=1)
        await make(pool, 2 * retention.BATCH, days=40)
        await pool.execute("CREATE INDEX by_age ON things (made_at)")
        await pool.execute("ANALYZE things")
    # A connection that has ended has reported what it read.
    async with open_pool(database_url, "public") as pool:
        before = await scans(pool)
    async with open_pool(database_url, "public", planner=ONE_PLAN) as pool:
        assert await RetentionWorker(pool, runtime, "toy", [things()]).once() == {"things": 2 * retention.BATCH}
    async with open_pool(database_url, "public") as pool:
        assert await scans(pool) == before


async def scans(pool: Pool) -> int:
    """How often `things` has been read as a whole."""
    return int(await pool.fetchval("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'things'"))


def things(keep: timedelta = KEEP) -> RetentionTask:
    return delete_rows_task("things", DELETE, keep)


def task(what: str, batches: Callable[[Connection], AsyncGenerator[int, None]]) -> RetentionTask:
    return RetentionTask(what, batches)


async def test_old_rows_are_deleted_in_batches_and_others_kept(
    pool: Pool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    await make(pool, 25, days=31)
    await make(pool, 7, days=29)
    house = RetentionWorker(pool, runtime, "toy", [things()])
    assert await house.once() == {"things": 25}
    assert await left(pool) == 7
    assert await house.once() == {"things": 0}


async def test_one_replica_at_a_time(pool: Pool, runtime: Runtime) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_connection: Connection) -> AsyncGenerator[int, None]:
        begun.set()
        await go_on.wait()
        yield 1

    first = asyncio.create_task(RetentionWorker(pool, runtime, "toy", [task("slow", slow)]).once())
    await begun.wait()
    second, other = (
        RetentionWorker(pool, runtime, "toy", [things()]),
        RetentionWorker(pool, runtime, "else", [things()]),
    )
    assert await second.once() is None
    assert await other.once() == {"things": 0}
    go_on.set()
    assert await first == {"slow": 1}
    assert await second.once() == {"things": 0}


async def test_a_failing_task_does_not_prevent_the_others(pool: Pool, runtime: Runtime) -> None:
    await make(pool, 3, days=31)
    broken = delete_rows_task("broken", "DELETE FROM nothing WHERE $1::interval IS NULL AND {limit} = 0", KEEP)
    house = RetentionWorker(pool, runtime, "toy", [broken, things()])
    assert await house.once() == {"broken": 0, "things": 3}


async def test_a_task_that_gets_no_lock_does_not_prevent_the_others(pool: Pool, runtime: Runtime) -> None:
    await make(pool, 3, days=31)
    await pool.execute("CREATE TABLE held (id int)")

    async def locked(connection: Connection) -> AsyncGenerator[int, None]:
        async with connection.transaction():
            await connection.execute("LOCK TABLE held NOWAIT")
        yield 1

    worker = RetentionWorker(pool, runtime, "toy", [task("locked", locked), things()])
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE held")
        assert await worker.once() == {"locked": 0, "things": 3}
    assert await worker.once() == {"locked": 1, "things": 0}


async def test_a_stop_takes_effect_between_two_batches(
    pool: Pool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    await make(pool, 25, days=31)
    runtime.stopping.set()
    assert await RetentionWorker(pool, runtime, "toy", [things()]).once() == {"things": 10}


async def test_it_repeats_survives_a_database_outage_and_ends_with_its_block(
    pool: Pool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "FIRST_AFTER_S", 0.02)
    monkeypatch.setattr(retention, "EVERY_S", 0.02)
    tries: list[int] = []

    async def shaky(connection: Connection) -> AsyncGenerator[int, None]:
        tries.append(len(tries))
        if len(tries) == 1:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        yield int(await connection.fetchval("SELECT 1"))

    await make(pool, 3, days=31)

    async def retried_and_deleted() -> bool:
        return len(tries) > 1 and await left(pool) == 0

    async with RetentionWorker(pool, runtime, "toy", [task("shaky", shaky), things()]).running():
        await eventually(retried_and_deleted)
        assert runtime.unhealthy() is None


def test_the_shortest_retention_exceeds_that_of_kafka_and_the_longest_deadline() -> None:
    assert LEAST_ROW_RETENTION_DAYS * DAY_S >= 2 * LONGEST_DEADLINE_S
    assert all(topic.retention_s <= LEAST_ROW_RETENTION_DAYS * DAY_S for topic in TOPICS)


@pytest.mark.parametrize("value", ["30", "0", "-1", "nan", "inf", "36501", "for ever"])
def test_an_invalid_retention_is_refused_with_its_setting(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:9092")
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/segue")
    monkeypatch.setenv("SEGUE_ROW_RETENTION_DAYS", value)
    with pytest.raises(WrongSettings, match="SEGUE_ROW_RETENTION_DAYS"):
        load_settings(ServiceSettings)
    monkeypatch.setenv("SEGUE_ROW_RETENTION_DAYS", "30.5")
    assert load_settings(ServiceSettings).keep_rows == timedelta(days=30.5)
