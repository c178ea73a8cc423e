"""The store: each event once, gaps counted, and messages that PostgreSQL refuses quarantined."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from prometheus_client import REGISTRY

from chassis.delivery.offsets import LogStarts
from chassis.postgres.pool import TRANSIENT, Pool, open_pool
from contracts.messages.requests import CancelRequested
from log_sink.store import Store
from read_model.tables import STATE

pytestmark = pytest.mark.asyncio(loop_scope="session")


def missed(topic: str = "segue.requests") -> float:
    return REGISTRY.get_sample_value("segue_sink_missed_total", {"topic": topic}) or 0.0


def logs_from(offset: int) -> LogStarts:
    """The answer of Kafka if every log begins at `offset`."""

    async def answer(places: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(places, offset)

    return answer


async def rows(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await pool.fetch(query)]


async def test_a_redelivered_batch_is_stored_once(pool: Pool, store: Store, deliver: Any, story: Any) -> None:
    batch = [deliver(message) for message in story.messages()]

    await store.store(batch)
    before = await rows(pool, "SELECT * FROM jobs")
    await store.store(batch)
    await store.store(batch[3:7])

    assert await pool.fetchval("SELECT count(*) FROM events") == len(batch)
    assert await rows(pool, "SELECT * FROM jobs") == before


async def test_a_batch_is_one_transaction_with_its_offsets(
    pool: Pool, database_url: str, deliver: Any, story: Any
) -> None:
    batch = [deliver(message) for message in story.messages()]
    async with open_pool(database_url, "log_sink", max_size=1) as own:
        store = Store(own)
        await store.store(batch)
    # The pool is closed: nothing is left to be written.
    await store.note_read([delivered.record for delivered in batch], logs_from(0))

    tables = ("events", "offsets", *(table.name for table in STATE))
    writers = " UNION ".join(f"SELECT xmin::text FROM {name}" for name in tables)  # noqa: S608
    assert len(await rows(pool, writers)) == 1
    ends = {
        topic: max(d.record.offset for d in batch if d.record.topic == topic) + 1
        for topic in {d.record.topic for d in batch}
    }
    assert dict(await rows(pool, "SELECT topic, next_offset FROM offsets")) == ends


async def test_a_crash_within_a_batch_leaves_nothing_of_it_and_its_repeat_all(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    batch = [deliver(message) for message in story.messages()]
    await pool.execute("""
        CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END$$;
        CREATE TRIGGER crash BEFORE INSERT ON artifacts FOR EACH ROW EXECUTE FUNCTION crash()
    """)
    with pytest.raises(TRANSIENT):
        await store.store(batch)
    for table in ("events", "offsets", *(table.name for table in STATE)):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0, table  # noqa: S608
    await pool.execute("DROP TRIGGER crash ON artifacts")

    await store.store(batch)
    await store.note_read([delivered.record for delivered in batch], logs_from(0))
    assert await pool.fetchval("SELECT count(*) FROM events") == len(batch)


async def test_a_batch_that_was_stored_before_a_crash_is_no_gap_for_the_next_process(
    pool: Pool, store: Store, deliver: Any, story_of: Any
) -> None:
    batch = [deliver(story_of(f"job {n}").requested(), offset=n) for n in range(6)]
    before = missed()
    await store.store(batch)  # The process ends before it commits to Kafka.

    restarted = Store(pool)
    for repeat in (batch[:3], batch[3:]):
        await restarted.store(repeat)
        await restarted.note_read([delivered.record for delivered in repeat], logs_from(500))
    assert missed() == before
    assert await pool.fetchval("SELECT next_offset FROM offsets") == 6
    assert await pool.fetchval("SELECT count(*) FROM events") == 6


async def test_records_beside_the_stored_ones_are_noted_as_read(
    pool: Pool, store: Store, deliver: Any, story_of: Any
) -> None:
    before = missed()
    for first in (0, 10, 20):
        batch = [deliver(story_of(f"job {n}").requested(), offset=n) for n in range(first, first + 10)]
        # The first and the last ones cannot be decoded, and the others are stored in two parts.
        await store.store(batch[1:4])
        await store.store(batch[6:9])
        await store.note_read([delivered.record for delivered in batch], logs_from(500))
        assert await pool.fetchval("SELECT next_offset FROM offsets") == first + 10
    assert missed() == before


async def test_a_replay_at_another_offset_and_time_is_no_new_event(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    message = story.requested()
    await store.store([deliver(message, offset=5)])

    later = message.model_copy(update={"occurred_at": message.occurred_at + timedelta(days=40)})
    await store.store([deliver(later, offset=900), deliver(message, offset=901)])

    assert await rows(pool, "SELECT kafka_offset, occurred_at FROM events") == [(5, message.occurred_at)]


async def test_an_event_twice_in_one_batch_is_one_event(pool: Pool, store: Store, deliver: Any, story: Any) -> None:
    await store.store([deliver(story.requested(), offset=1), deliver(story.requested(), offset=2)])

    assert await rows(pool, "SELECT kafka_offset FROM events") == [(1,)]


async def test_two_writers_of_one_partition_store_each_event_once(
    pool: Pool, store: Store, deliver: Any, story_of: Any
) -> None:
    batch = [deliver(story_of(f"job {n}").requested(), offset=n) for n in range(50)]
    zombie = Store(pool)

    await asyncio.gather(store.store(batch), zombie.store(batch), store.store(batch[10:]), zombie.store(batch[:40]))

    assert await pool.fetchval("SELECT count(*) FROM events") == 50
    assert await pool.fetchval("SELECT count(DISTINCT event_id) FROM events") == 50


async def test_a_writer_waits_for_the_one_that_holds_its_partition(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    held, other = deliver(story.requested(), partition=0), deliver(story.requested(), partition=1, ce_id="another")
    await store.store([deliver(story.messages()[1], topic="segue.requests", partition=0)])
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM offsets WHERE kafka_partition = 0 FOR UPDATE")
        waiting = asyncio.create_task(store.store([held]))
        await store.store([other])
        assert await pool.fetchval("SELECT count(*) FROM events WHERE kafka_partition = 1") == 1
        assert not waiting.done()
    await waiting
    assert await pool.fetchval("SELECT count(*) FROM events WHERE kafka_partition = 0") == 2


async def test_a_gap_in_the_offsets_is_counted_and_no_event_is_dropped(
    pool: Pool, store: Store, deliver: Any, story_of: Any
) -> None:
    async def read(*offsets: int, log_start: int = 0) -> None:
        batch = [deliver(story_of(f"at {offset}").requested(), offset=offset) for offset in offsets]
        await store.store(batch)
        await store.note_read([delivered.record for delivered in batch], logs_from(log_start))

    before = missed()
    await read(3, 4)  # the first read may begin at any offset
    await read(5, 7)  # offset 6 is no message, and the log still has it
    await read(4, 5)  # redelivered after a rebalance
    assert missed() == before
    await read(20, 21, log_start=20)
    assert missed() == before + 12
    assert await pool.fetchval("SELECT next_offset FROM offsets") == 22
    assert await pool.fetchval("SELECT count(*) FROM events") == 6


@pytest.mark.parametrize(("log_start", "gone"), [(0, 0), (7, 0), (9, 0), (10, 1), (12, 3), (13, 3), (500, 3)])
async def test_only_offsets_before_the_start_of_the_log_are_counted_as_missed(
    pool: Pool, store: Store, deliver: Any, story_of: Any, log_start: int, gone: int
) -> None:
    first, later = (deliver(story_of(f"at {offset}").requested(), offset=offset) for offset in (8, 12))
    before = missed()
    await store.note_read([first.record], logs_from(0))
    await store.note_read([later.record], logs_from(log_start))
    assert missed() == before + gone
    assert await pool.fetchval("SELECT next_offset FROM offsets") == 13


async def test_a_gap_is_counted_on_the_repeat_if_kafka_did_not_answer_before(
    pool: Pool, store: Store, deliver: Any, story_of: Any
) -> None:
    async def no_answer(_places: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        raise KafkaConnectionError

    first, later = (deliver(story_of(f"at {offset}").requested(), offset=offset) for offset in (8, 12))
    before = missed()
    await store.note_read([first.record], no_answer)
    with pytest.raises(KafkaConnectionError):
        await store.note_read([later.record], no_answer)
    await store.note_read([later.record], logs_from(12))
    assert missed() == before + 3


async def test_a_recreated_topic_loses_no_event_and_is_no_gap(
    pool: Pool, store: Store, deliver: Any, story_of: Any
) -> None:
    old = [deliver(story_of(f"old {n}").requested(), offset=n) for n in range(500, 510)]
    new = [deliver(story_of(f"new {n}").requested(), offset=n) for n in range(5)]
    more = [deliver(story_of(f"more {n}").requested(), offset=n) for n in range(5, 8)]
    before = missed()

    for batch in (old, new, more):
        await store.store(batch)
        await store.note_read([delivered.record for delivered in batch], logs_from(0))

    assert await pool.fetchval("SELECT count(*) FROM events") == 18
    assert await pool.fetchval("SELECT next_offset FROM offsets") == 8
    assert missed() == before


def poisons(story: Any) -> dict[str, bytes]:
    """Bodies that can be decoded, but that jsonb cannot hold because of a field that this version does not have."""
    body = story.messages()[3].model_dump_json()[:-1].encode()
    return {
        "NUL": body + rb',"mood":"a\u0000b"}',
        "NUL in a name": body + rb',"\u0000":1}',
        "huge number": body + b',"weight":1e400000}',
        "tiny number": body + b',"weight":-1e-400000}',
        "no number": body + b',"weight":NaN}',
        "infinite": body + b',"weight":[-Infinity,Infinity]}',
        "endless number": body + b',"weight":0.' + b"1" * 20_000 + b"}",
    }


async def test_what_postgres_refuses_is_kept_whole(
    pool: Pool, store: Store, deliver: Any, story: Any, story_of: Any
) -> None:
    bad = list(poisons(story).values())
    good = [deliver(story_of(f"good {n}").requested(), offset=100 + n) for n in range(len(bad) + 1)]
    batch = [good[0]]
    for n, value in enumerate(bad):
        batch += [deliver(story.messages()[3], offset=n, partition=2, value=value, ce_id=f"bad {n}"), good[n + 1]]

    for _again in range(2):
        await store.store(batch)

    assert await pool.fetchval("SELECT count(*) FROM events") == len(good)
    found = await pool.fetch("SELECT * FROM quarantine ORDER BY kafka_offset")
    assert [row["value"] for row in found] == bad
    record = batch[1].record
    assert {(row["topic"], row["kafka_partition"], row["key"]) for row in found} == {(record.topic, 2, record.key)}
    assert [pair[0] for pair in found[0]["headers"]] == [name for name, _raw in record.headers]
    assert all(row["error"] for row in found)


@pytest.mark.parametrize(
    "number", [b"1e131071", b"-1e-16383", b"0.1", b"9" * 4_000, b'"1e400000"', rb'"\\u0000"', b"[" * 150 + b"]" * 150]
)
async def test_an_unusual_value_that_jsonb_can_hold_is_stored(
    pool: Pool, store: Store, deliver: Any, story: Any, number: bytes
) -> None:
    body = story.messages()[3].model_dump_json()[:-1].encode()
    odd = deliver(story.messages()[3], value=body + b',"weight":' + number + b"}", ce_id="odd")
    bad = deliver(story.messages()[3], value=body + b',"weight":1e400000}', ce_id="bad")
    await store.store([odd, bad])
    assert await pool.fetchval("SELECT event_id FROM events") == "odd"
    assert await pool.fetchval("SELECT count(*) FROM quarantine") == 1


async def test_a_single_message_that_postgresql_refuses_is_quarantined_once(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    poison = deliver(story.requested(), offset=7)
    for _again in range(2):
        assert await store.quarantine(poison, asyncpg.DataError("no such date"))
    assert [row["kafka_offset"] for row in await pool.fetch("SELECT * FROM quarantine")] == [7]


async def test_a_message_is_not_quarantined_for_an_error_of_the_sink(store: Store, deliver: Any, story: Any) -> None:
    assert not await store.quarantine(deliver(story.requested()), KeyError("a bug"))


async def test_the_log_keeps_unknown_fields(pool: Pool, store: Store, deliver: Any, story: Any) -> None:
    message = CancelRequested(job_id=story.job_id, tenant="acme", occurred_at=story.requested().occurred_at)
    value = message.model_dump_json()[:-1].encode() + b',"mood":["calm"]}'

    await store.store([deliver(message, value=value)])

    row = await pool.fetchrow("SELECT data, message, trace_id FROM events")
    assert row is not None
    assert row["data"]["mood"] == ["calm"]
    assert (row["message"], row["trace_id"]) == ("asked to cancel", "0123456789abcdef0123456789abcdef")
