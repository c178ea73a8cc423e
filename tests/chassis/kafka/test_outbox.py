"""Messages of a transaction are published if and only if it commits: at once, in order, despite outages and crashes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord
from tests.chassis.toy import Toy, job, read, runtime_for, started, toy, until

from chassis.kafka import outbox
from chassis.kafka.broker import SegueBroker
from chassis.kafka.producer import sending
from chassis.kafka.producer.sending import Row, Sent
from chassis.postgres import outbox_rows
from chassis.postgres.pool import TRANSIENT, open_pool
from contracts.envelope import Envelope, decode
from contracts.messages.base import Message
from contracts.messages.jobs import JobStarted
from contracts.messages.requests import CancelRequested
from contracts.topics import JOBS, PARTITIONS, REQUESTS, TOPICS
from segue_cli.local.kafka import kafka
from segue_cli.local.postgres import LocalPostgres, postgres

SIZES = {topic.name: PARTITIONS for topic in TOPICS}
TRACEPARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@pytest.fixture
def eager_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "RELAY_AGE_S", 0.4)


@pytest_asyncio.fixture
async def own_postgres() -> AsyncIterator[LocalPostgres]:
    async with postgres() as server:
        yield server


@pytest_asyncio.fixture
async def port() -> int:
    """A port at which a cluster can be started several times."""
    async with kafka(SIZES) as probe:
        return int(probe.bootstrap_servers.rpartition(":")[2])


async def commit_messages(made: Toy, *messages: Message) -> None:
    async with made.outbox.transaction() as transaction:
        for message in messages:
            transaction.emit(message, TRACEPARENT)


async def released(made: Toy) -> bool:
    return not made.outbox._in_flight


async def roll_back(made: Toy, committed_at: list[int]) -> None:
    async with made.outbox.transaction() as transaction:
        transaction.emit(started(job(0)), None)
        transaction.after_commit(lambda: committed_at.append(0))
        raise RuntimeError("rolled back")


async def leave_behind(made: Toy, count: int) -> None:
    """Commit messages without publishing them, as after a crash."""
    dead = outbox.Outbox(made.pool, made.broker, made.runtime)
    async with dead.transaction() as transaction:
        for n in range(count):
            transaction.emit(started(job(n)), TRACEPARENT)


async def outbox_is(made: Toy, status: str) -> bool:
    """Whether `/readyz` says this about the outbox."""
    return made.runtime.dependencies()["outbox"].status == status


async def empty(made: Toy) -> bool:
    return await made.waiting() == 0


async def published(made: Toy, count: int) -> bool:
    """Whether Kafka has confirmed so many rows that are not deleted yet."""
    return len(made.outbox._published) == count


async def refuse_to_delete(made: Toy) -> None:
    await made.pool.execute(
        "CREATE SEQUENCE refusals;"
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM nextval('refusals'); RAISE 'not now'; END $$;"
        "CREATE TRIGGER refuse BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION refuse()"
    )


async def refused(made: Toy, times: int = 1) -> bool:
    return bool(await made.pool.fetchval("SELECT is_called AND last_value >= $1 FROM refusals", times))


def versions(records: Sequence[ConsumerRecord[bytes, bytes]]) -> dict[str, list[int]]:
    """The versions of each job, in log order."""
    versions: dict[str, list[int]] = defaultdict(list)
    for record in records:
        found = decode(record.headers, record.value)
        assert isinstance(found, Envelope)
        assert isinstance(found.message, JobStarted)
        versions[found.message.job_id].append(found.message.version)
    return versions


def ids(records: Sequence[ConsumerRecord[bytes, bytes]]) -> list[bytes]:
    return [value for record in records for name, value in record.headers if name == "ce_id"]


async def test_committed_messages_are_published_at_once_and_others_never(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RELAY_AGE_S", 3600)  # Nothing is published by the relay.
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        committed_at: list[int] = []
        with pytest.raises(RuntimeError, match="rolled back"):
            await roll_back(made, committed_at)
        async with made.outbox.transaction() as transaction:
            transaction.emit(started(job(1)), TRACEPARENT)
            transaction.after_commit(lambda: committed_at.append(1))
        assert committed_at == [1]
        (record,) = await read(embedded_kafka, JOBS.name, 1)
    headers = {name: value.decode() for name, value in record.headers if value is not None}
    assert record.key == job(1).encode()
    assert headers["ce_id"] == str(started(job(1)).event_id)
    assert (headers["ce_source"], headers["traceparent"]) == ("/segue/toy", TRACEPARENT)


async def test_what_is_not_awaited_is_published_with_what_is(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    async def counted(broker: SegueBroker, rows: Sequence[Row], *rest: Any) -> Sent:
        sizes.append(len(rows))
        return await sending.send(broker, rows, *rest)

    monkeypatch.setattr(outbox, "send", counted)
    monkeypatch.setattr(outbox, "LINGER_S", 3600)
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        await commit_messages(made, started(job(1), 1))
        await commit_messages(made, started(job(1), 2))
        await commit_messages(made, CancelRequested(job_id=job(1), occurred_at=datetime.now(UTC), tenant="toy"))
        await read(embedded_kafka, REQUESTS.name, 1)
    assert sizes == [3]
    assert versions(await read(embedded_kafka, JOBS.name, 2)) == {job(1): [1, 2]}


async def test_messages_of_one_key_keep_their_order(embedded_kafka: str, database_url: str) -> None:
    async def tell(made: Toy, n: int) -> None:
        for version in range(1, 41, 2):
            await commit_messages(made, started(job(n), version), started(job(n), version + 1))

    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        await asyncio.gather(*(tell(made, n) for n in range(8)))
        await until(lambda: empty(made))
    assert versions(await read(embedded_kafka, JOBS.name, 320)) == {job(n): list(range(1, 41)) for n in range(8)}


async def test_a_message_emitted_twice_while_it_waits_is_published_once(embedded_kafka: str, database_url: str) -> None:
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        await commit_messages(made, started(job(1)), started(job(1)))
        await until(lambda: empty(made))
        assert len(await read(embedded_kafka, JOBS.name, 1)) == 1


@pytest.mark.usefixtures("eager_relay")
async def test_two_replicas_relay_the_messages_after_a_crash_each_once(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 40)
    async with (
        toy(embedded_kafka, database_url, runtime_for("one"), consuming=False) as one,
        toy(embedded_kafka, database_url, runtime_for("two"), consuming=False),
    ):
        await leave_behind(one, 300)
        await until(lambda: empty(one))
    published = ids(await read(embedded_kafka, JOBS.name, 300))
    assert len(published) == len(set(published)) == 300


@pytest.mark.usefixtures("eager_relay")
async def test_a_message_published_but_not_deleted_is_published_again_with_the_same_id(
    embedded_kafka: str, database_url: str
) -> None:
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as before:
        await refuse_to_delete(before)
        await commit_messages(before, started(job(1)))
        await until(lambda: refused(before))
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        assert await made.waiting() == 1
        await made.pool.execute("DROP TRIGGER refuse ON outbox")
        await until(lambda: empty(made))
        assert ids(await read(embedded_kafka, JOBS.name, 2)) == [str(started(job(1)).event_id).encode()] * 2


@pytest.mark.usefixtures("eager_relay")
async def test_a_message_whose_row_cannot_be_deleted_yet_is_published_once(
    embedded_kafka: str, database_url: str
) -> None:
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        await refuse_to_delete(made)
        await commit_messages(made, started(job(1)))
        await until(lambda: refused(made, times=3))
        await made.pool.execute("DROP TRIGGER refuse ON outbox")
        await until(lambda: empty(made))
        await commit_messages(made, started(job(1), 2))
        assert versions(await read(embedded_kafka, JOBS.name, 2)) == {job(1): [1, 2]}
        await until(lambda: outbox_is(made, "ok"))
        assert made.runtime.unhealthy() is None


async def test_few_published_rows_wait_for_the_relay_and_many_do_not(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RELAY_AGE_S", 3600)
    monkeypatch.setattr(outbox, "DELETE_SOON", 3)
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        await commit_messages(made, started(job(1)), started(job(2)))
        await until(lambda: published(made, 2))
        assert await made.waiting() == 2
        await commit_messages(made, started(job(3)))
        await until(lambda: empty(made))


@pytest.mark.usefixtures("eager_relay")
async def test_the_relay_deletes_published_rows_in_the_statement_that_looks_for_others(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("the rows were deleted by a statement of their own")

    monkeypatch.setattr(outbox_rows, "delete", never)
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        await commit_messages(made, started(job(1)), started(job(2)))
        await until(lambda: published(made, 2))
        await until(lambda: empty(made))
        await until(lambda: released(made))


async def test_the_relay_waits_for_no_row_that_another_replica_has_taken(
    embedded_kafka: str, database_url: str
) -> None:
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        await leave_behind(made, 4)
        [taken, own, others, also] = [row["id"] for row in await made.pool.fetch("SELECT id FROM outbox ORDER BY id")]
        async with (
            made.pool.acquire() as replica,
            replica.transaction(),
            made.pool.acquire() as here,
            here.transaction(),
        ):
            await replica.execute("SELECT FROM outbox WHERE id = ANY($1) FOR UPDATE", [taken, also])
            found = await outbox_rows.left_behind(here, 0, [taken, own], 10, [], published=[taken, own])
            assert [row_id for row_id, _ in found] == [others]
            await outbox_rows.delete(here, [also])
        assert [row["id"] for row in await made.pool.fetch("SELECT id FROM outbox ORDER BY id")] == [
            taken,
            others,
            also,
        ]


async def test_a_row_is_as_old_as_it_is_known_to_others(embedded_kafka: str, database_url: str) -> None:
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        async with outbox.Outbox(made.pool, made.broker, made.runtime).transaction() as slow:
            await slow.connection.execute("SELECT pg_sleep(1)")
            slow.emit(started(job(1)), TRACEPARENT)
        assert await made.pool.fetchval("SELECT created_at FROM outbox") >= slow.now + timedelta(seconds=1)


async def test_rows_published_while_the_process_stops_do_not_wait_for_the_relay(
    embedded_kafka: str, database_url: str
) -> None:
    runtime = runtime_for()
    async with toy(embedded_kafka, database_url, runtime, consuming=False) as made:
        await commit_messages(made, started(job(1)))
        await until(lambda: published(made, 1))
        runtime.stopping.set()
        await until(lambda: empty(made))
        await commit_messages(made, started(job(2)))
        await until(lambda: empty(made))


async def test_at_the_end_of_the_block_published_rows_are_deleted(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RELAY_AGE_S", 3600)
    async with open_pool(database_url, "toy") as pool:
        async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
            await commit_messages(made, started(job(1)))
            await until(lambda: published(made, 1))
        assert await pool.fetchval("SELECT count(*) FROM outbox") == 0


@pytest.mark.usefixtures("eager_relay")
async def test_while_postgres_is_unavailable_nothing_is_lost(embedded_kafka: str, own_postgres: LocalPostgres) -> None:
    async with toy(embedded_kafka, own_postgres.url, runtime_for(), consuming=False) as made:
        await commit_messages(made, started(job(1)))
        await own_postgres.stop("immediate")
        with pytest.raises(TRANSIENT):
            await commit_messages(made, started(job(2)))
        await until(lambda: outbox_is(made, "fail"))
        assert made.runtime.unhealthy() is None
        await own_postgres.start()
        await commit_messages(made, started(job(3)))
        await until(lambda: empty(made))
        await until(lambda: outbox_is(made, "ok"))
        assert made.runtime.unhealthy() is None
    assert set(versions(await read(embedded_kafka, JOBS.name, 2))) == {job(1), job(3)}


@pytest.mark.usefixtures("eager_relay")
async def test_while_kafka_is_unavailable_messages_wait_in_postgres_and_a_bounded_number_in_memory(
    port: int, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_IN_FLIGHT", 20)
    monkeypatch.setattr(outbox, "PUBLISH_LIMIT_S", 0.5)
    async with AsyncExitStack() as stack:
        async with kafka(SIZES, port=port) as before:
            servers = before.bootstrap_servers
            made = await stack.enter_async_context(toy(servers, database_url, runtime_for(), consuming=False))
            await commit_messages(made, started(job(0)))
            await until(lambda: empty(made))
        for n in range(1, 101):
            await commit_messages(made, started(job(n)))
            assert len(made.outbox._pending) <= 20
        assert await made.waiting() == 100
        await until(lambda: outbox_is(made, "fail"))
        assert (made.runtime.unhealthy(), made.runtime.unready()) == (None, None)
        async with kafka(SIZES, port=port):
            await until(lambda: empty(made))
            assert set(versions(await read(servers, JOBS.name, 100))) == {job(n) for n in range(1, 101)}
            assert made.runtime.unhealthy() is None
            await until(lambda: outbox_is(made, "ok"))
            await stack.aclose()


async def test_pending_messages_are_published_at_the_end_of_the_block(embedded_kafka: str, database_url: str) -> None:
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        await commit_messages(made, *(started(job(n)) for n in range(100)))
    assert len(await read(embedded_kafka, JOBS.name, 100)) == 100
