"""Transaction markers, which are offsets without a record, on a real Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from prometheus_client import REGISTRY
from tests.chassis.delivery.test_progress import shown
from tests.chassis.toy import Toy, job, lag, request, runtime_for, send, toy, until

import log_sink
from chassis.delivery.tail import Tail
from chassis.kafka.consumer_lag import GroupProgress
from chassis.kafka.topics import admin
from chassis.postgres.pool import migrate, open_pool
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Envelope, Record
from contracts.topics import REQUESTS
from log_sink.store import Store

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PLACE = TopicPartition(REQUESTS.name, 0)


async def transact(servers: str, *transactions: Iterable[Record], abort: bool = False) -> None:
    """Send each group of records to partition 0 in one transaction, which ends with a marker."""
    async with AIOKafkaProducer(bootstrap_servers=servers, transactional_id="a-stranger") as producer:
        for records in transactions:
            await producer.begin_transaction()
            for each in records:
                await producer.send_and_wait(
                    each.topic, each.value, key=each.key, headers=list(each.headers), partition=0
                )
            await (producer.abort_transaction() if abort else producer.commit_transaction())


async def handled(made: Toy, numbers: Iterable[int]) -> bool:
    return set(await made.commits()) >= {job(n) for n in numbers}


async def committed(servers: str, group: str) -> bool:
    return set((await lag(servers, group, REQUESTS.name)).values()) == {0}


async def test_a_group_commits_past_markers_and_is_up_to_date(servers: str, database_url: str) -> None:
    keys = [job(n) for n in range(60)]
    progress = GroupProgress(KafkaCluster(servers), REQUESTS, "past")

    async def all_consumed() -> bool:
        return None not in (await progress.heard_until(keys)).values()

    async with toy(servers, database_url, runtime_for("past")) as made, progress.running():
        for first in (0, 20, 40):
            # A marker at the end of the log, between records, and of an aborted transaction.
            await transact(servers, [request(first)], [request(n) for n in range(first + 1, first + 20)])
            await transact(servers, [request(first + 19)], abort=True)
            await until(partial(handled, made, range(first, first + 20)))
            await until(partial(committed, servers, "past"))
            await until(all_consumed)
        await until(has_no_lag)
        assert made.runtime.unready() is None
    async with toy(servers, database_url, runtime_for("past")) as again:
        await send(servers, [request(100)])
        await until(lambda: handled(again, [100]))
        assert len(again.calls) == 1, "nothing came again"


async def has_no_lag() -> bool:
    return shown(0) == 0


async def test_a_group_with_only_a_marker_or_deleted_records_before_it_is_up_to_date(
    servers: str, database_url: str
) -> None:
    await transact(servers, [request(n) for n in range(5)])
    async with admin(KafkaCluster(servers)) as client:
        await client.delete_records({PLACE: RecordsToDelete(before_offset=5)})
    async with toy(servers, database_url, runtime_for("late")) as made:
        await until(partial(committed, servers, "late"))
        assert made.calls == []


async def test_a_tail_whose_topic_ends_in_a_marker_is_ready(servers: str) -> None:
    await transact(servers, [request(n) for n in range(5)])
    await transact(servers, [request(9)], abort=True)
    runtime, told = runtime_for("tailing"), set[str]()
    runtime.started = True

    def take(envelope: Envelope, _arrived_at: datetime | None) -> None:
        told.add(envelope.message.job_id)

    async def ready() -> bool:
        return runtime.unready() is None

    async with Tail(KafkaCluster(servers), (REQUESTS,), take, runtime).running():
        await until(ready)
        assert told >= {job(n) for n in range(5)}


async def test_the_sink_counts_real_gaps_and_no_markers(servers: str, database_url: str) -> None:
    def missed() -> float:
        return REGISTRY.get_sample_value("segue_sink_missed_total", {"topic": REQUESTS.name}) or 0.0

    await migrate(database_url, "log_sink", log_sink)
    before = missed()
    async with open_pool(database_url, "log_sink") as pool:
        note = Store(pool).note_read
        async with toy(servers, database_url, runtime_for("sink"), settled=note) as made:
            for n in range(10):
                await transact(servers, [request(n)])
                await until(partial(handled, made, [n]))
            await until(partial(committed, servers, "sink"))
        assert missed() == before
        await transact(servers, *([request(n)] for n in range(10, 15)))
        # Five records with their markers, offsets 20 to 29; the first three records are deleted.
        async with admin(KafkaCluster(servers)) as client:
            await client.delete_records({PLACE: RecordsToDelete(before_offset=26)})
        async with toy(servers, database_url, runtime_for("sink"), settled=note) as made:
            await until(lambda: handled(made, [13, 14]))
            await until(partial(committed, servers, "sink"))
        assert missed() - before == 7, "offsets 19 to 25, with their markers"
