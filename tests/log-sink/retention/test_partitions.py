"""The monthly partitions of the events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.postgres.pool import Pool
from log_sink.retention.partitions import ensure_partitions, months_wanted
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
