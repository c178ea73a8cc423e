"""Batches that the store writes with several statements: in order, in one transaction, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from tests.patience import eventually

from chassis.delivery.consumer import Delivered
from chassis.postgres.pool import Pool, open_pool
from log_sink.projection.event_rows import event_row
from log_sink.store import EVENTS_AT_ONCE, Store
from read_model.tables import STATE

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGE = 2 * EVENTS_AT_ONCE + 1


@pytest.fixture
def large(deliver: Any, story_of: Any) -> list[Delivered]:
    """Two full statements of events and one that has a single event; the events of some jobs are in two of them."""
    jobs = [story_of(f"job {n}").messages() for n in range(LARGE // 13 + 1)]
    return [deliver(message) for messages in jobs for message in messages][:LARGE]


@pytest_asyncio.fixture(loop_scope="session")
async def own(database_url: str) -> AsyncIterator[Pool]:
    """A pool of one connection: what a store leaves on it is found by the next one that uses it."""
    async with open_pool(database_url, "log_sink", max_size=1) as opened:
        yield opened


async def nothing_is_stored(pool: Pool) -> bool:
    tables = ("events", "offsets", *(table.name for table in STATE))
    return not any([await pool.fetchval(f"SELECT EXISTS (SELECT FROM {name})") for name in tables])  # noqa: S608


async def test_a_large_batch_is_one_transaction_in_the_order_of_its_events(
    pool: Pool, store: Store, large: list[Delivered]
) -> None:
    await store.store(large)

    stored = [row["event_id"] for row in await pool.fetch("SELECT event_id FROM events ORDER BY seq")]
    assert stored == [delivered.event_id for delivered in large]
    tables = ("events", "offsets", *(table.name for table in STATE))
    assert len(await pool.fetch(" UNION ".join(f"SELECT xmin::text FROM {name}" for name in tables))) == 1  # noqa: S608


async def test_each_statement_has_so_many_events_and_each_table_one_statement(
    own: Pool, large: list[Delivered]
) -> None:
    seen: list[str] = []
    async with own.acquire() as connection:  # Its loggers stay when it is returned.
        connection.add_query_logger(lambda record: seen.append(record.query.split("(")[0].strip()))
    await Store(own).store(large)

    inserts = [query for query in seen if query.startswith("INSERT INTO")]
    assert inserts == [
        "INSERT INTO offsets",
        *["INSERT INTO events"] * 3,
        *(f"INSERT INTO {t.name} AS t" for t in STATE),
    ]


async def test_the_state_of_a_large_batch_is_that_of_its_events_one_by_one(
    pool: Pool, store: Store, large: list[Delivered]
) -> None:
    async def state() -> list[list[dict[str, Any]]]:
        queries = [f"SELECT * FROM {table.name} ORDER BY 1, 2" for table in STATE]  # noqa: S608
        return [[dict(row) for row in await pool.fetch(query)] for query in queries]

    await store.store(large)
    whole = await state()
    await pool.execute("TRUNCATE events, jobs, attempts, tracks, artifacts")
    for delivered in large:
        await store.store([delivered])
    assert await state() == whole


@pytest.mark.parametrize("place", [0, EVENTS_AT_ONCE, LARGE - 1])
async def test_a_message_that_postgres_refuses_is_quarantined_from_any_statement(
    pool: Pool, store: Store, deliver: Any, story: Any, large: list[Delivered], place: int
) -> None:
    body = story.messages()[3].model_dump_json()[:-1].encode() + b',"weight":1e400000}'
    large.insert(place, deliver(story.messages()[3], value=body, ce_id="bad", partition=1))

    await store.store(large)

    assert await pool.fetchval("SELECT count(*) FROM events") == LARGE
    assert await pool.fetchval("SELECT count(*) FROM quarantine") == 1


async def test_a_statement_that_cannot_be_made_leaves_nothing_of_its_batch(
    own: Pool, large: list[Delivered], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(delivered: Delivered) -> tuple[object, ...]:
        if delivered is large[EVENTS_AT_ONCE]:  # The first statement is executed meanwhile.
            raise KeyError("a bug")
        return event_row(delivered)

    with monkeypatch.context() as patch:
        patch.setattr("log_sink.store.event_row", failing)
        with pytest.raises(KeyError):
            await Store(own).store(large)
    assert await nothing_is_stored(own)

    await Store(own).store(large)
    assert await own.fetchval("SELECT count(*) FROM events") == LARGE


async def test_a_store_that_is_cancelled_within_a_statement_leaves_nothing_of_its_batch(
    own: Pool, database_url: str, large: list[Delivered]
) -> None:
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE log_sink.events IN SHARE MODE")
            storing = asyncio.create_task(Store(own).store(large))
            await eventually(lambda: other.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
            storing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await storing
    finally:
        await other.close()
    assert await nothing_is_stored(own)

    await Store(own).store(large)
    assert await own.fetchval("SELECT count(*) FROM events") == LARGE
