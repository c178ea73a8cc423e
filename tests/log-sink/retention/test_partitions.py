"""The monthly partitions of the events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.patience import eventually, patient

from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool
from chassis.runtime.runtime import Runtime
from log_sink.log_events import LogSinkEvent
from log_sink.retention import partitions
from log_sink.retention.partitions import ensure_partitions, months_wanted, partitions_kept
from log_sink.store import Store

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("now", "first", "last"),
    [
        (datetime(2026, 1, 31, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)),
        (datetime(2026, 11, 5, 23, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)),
        (datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC), datetime(2027, 3, 1, tzinfo=UTC)),
    ],
)
async def test_partitions_are_wanted_for_the_months_around_now(now: datetime, first: datetime, last: datetime) -> None:
    months = months_wanted(now)
    assert (months[0], months[-1], len(months)) == (first, last, 5)
    assert months == sorted(set(months))


async def test_a_late_partition_takes_its_rows_from_the_default_partition(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    batch = [deliver(message) for message in story.messages()]
    await store.store(batch)
    assert await pool.fetchval("SELECT count(*) FROM events_default") == len(batch)

    both = await asyncio.gather(*(ensure_partitions(pool, batch[0].message.occurred_at) for _replica in range(2)))

    assert sorted(name for made in both for name in made) == [f"events_2026_{month:02}" for month in range(2, 7)]
    assert await pool.fetchval("SELECT count(*) FROM events_default") == 0
    assert await pool.fetchval("SELECT count(*) FROM events_2026_03") == len(batch)
    await store.store(batch)
    assert await pool.fetchval("SELECT count(*) FROM events") == len(batch)
    assert await ensure_partitions(pool, batch[0].message.occurred_at) == []


WAITING = """
SELECT count(*) > 0 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE NOT granted AND locktype = 'relation' AND datname = current_database()
"""


async def test_a_writer_that_has_read_the_log_and_the_making_of_a_partition_do_not_block_each_other(
    pool: Pool, store: Store, deliver: Any, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "LOCK_LIMIT_S", patient(30))
    await store.store([deliver(story.messages()[0])])
    async with pool.acquire() as connection, connection.transaction():
        assert await connection.fetchval("SELECT count(*) FROM events") == 1
        making = asyncio.create_task(ensure_partitions(pool, story.messages()[0].occurred_at))
        await eventually(lambda: pool.fetchval(WAITING))
        await connection.execute("UPDATE events SET message = 'written'")
    assert len(await making) == 5
    assert await pool.fetchval("SELECT message FROM events_2026_03") == "written"


async def test_a_start_goes_on_while_somebody_holds_the_log_and_the_partitions_are_made_later(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pg_dump does, which holds a lock of this kind on every table for as long as it runs."""
    monkeypatch.setattr(partitions, "LOCK_LIMIT_S", 0.05)
    monkeypatch.setattr(partitions, "AGAIN_S", 0.05)
    runtime = Runtime("log-sink", make_telemetry("x", None))
    [month, *_] = months_wanted(await pool.fetchval("SELECT now()"))
    name = f"events_{month:%Y_%m}"

    async def made() -> bool:
        return await pool.fetchval("SELECT to_regclass($1)", name) is not None

    async with pool.acquire() as dump:
        holding = dump.transaction()
        await holding.start()
        await dump.execute("LOCK TABLE events IN ACCESS SHARE MODE")
        with capture_logs() as logged:
            async with partitions_kept(pool, runtime):
                assert not await made()
                assert {line["event"] for line in logged} == {LogSinkEvent.PARTITIONS_POSTPONED}
                await holding.rollback()
                await eventually(made)
