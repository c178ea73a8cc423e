"""Topics that are deleted and created again under running services, on a real Apache Kafka."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewPartitions, NewTopic
from prometheus_client import REGISTRY
from tests.chassis.toy import Toy, job, lag, read, request, runtime_for, send, started, toy, until
from tests.patience import patient

from chassis.kafka import topic_watch
from chassis.kafka.topic_watch import TopicWatch
from chassis.kafka.topics import admin, create_topics, describe, min_in_sync
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.messages.requests import CancelRequested
from contracts.topics import DEAD_LETTERS, JOBS, PARTITIONS, REQUESTS, TOPICS, Topic, TopicNames
from segue_cli.stack.topics import NotYet, ensure_topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

WITHIN_S = 30


def unavailable() -> float | None:
    return REGISTRY.get_sample_value("segue_topic_unavailable", {"topic": REQUESTS.name})


async def delete(servers: str, *topics: Topic) -> None:
    """Delete topics, and wait until the cluster no longer lists them."""
    names = [topic.name for topic in topics]
    async with asyncio.timeout(patient(20)), admin(KafkaCluster(servers)) as client:
        await client.delete_topics(names)
        while set(await client.list_topics()) & set(names):  # noqa: ASYNC110 - the broker sends no notification
            await asyncio.sleep(0.02)


async def create(servers: str, *topics: Topic) -> None:
    assert set((await create_topics(KafkaCluster(servers), topics, replication=1)).values()) == {"created"}


async def handled(made: Toy, numbers: Iterable[int]) -> bool:
    return set(await made.commits()) >= {job(n) for n in numbers}


async def unready(made: Toy, *words: str) -> bool:
    return all(word in str(made.runtime.unready()) for word in words)


async def ready(made: Toy) -> bool:
    return made.runtime.unready() is None


async def committed(servers: str, group: str, topic: Topic) -> bool:
    return set((await lag(servers, group, topic.name)).values()) == {0}


async def test_a_missing_topic_is_reported_and_consumed_once_it_is_created_again(
    servers: str, database_url: str
) -> None:
    async with toy(servers, database_url, runtime_for("bereft"), topics=(REQUESTS, JOBS)) as made:
        await send(servers, [request(n) for n in range(100)], partition=None)
        await until(lambda: handled(made, range(100)))
        assert unavailable() == 0

        await delete(servers, REQUESTS)
        await until(lambda: unready(made, f"{REQUESTS.name} is missing"), within_s=WITHIN_S)
        assert unavailable() == 1
        assert made.runtime.unhealthy() is None

        await create(servers, REQUESTS)
        await send(servers, [request(n) for n in range(100, 150)], partition=None)
        await until(lambda: handled(made, range(150)), within_s=WITHIN_S)
        await until(lambda: ready(made), within_s=WITHIN_S)
        await until(lambda: committed(servers, "bereft", REQUESTS))
        assert unavailable() == 0


async def test_nothing_is_skipped_of_a_topic_that_was_created_again_and_is_longer_than_the_old_offsets(
    servers: str, database_url: str
) -> None:
    async with toy(servers, database_url, runtime_for("outgrown")) as made:
        await send(servers, [request(n) for n in range(30)], partition=0)
        await until(lambda: handled(made, range(30)))
        await until(lambda: committed(servers, "outgrown", REQUESTS))
        await delete(servers, REQUESTS)
        await create(servers, REQUESTS)
        await send(servers, [request(n) for n in range(100, 300)], partition=0)
        await until(lambda: handled(made, range(100, 300)), within_s=WITHIN_S)
        await until(lambda: ready(made), within_s=WITHIN_S)
        await until(lambda: committed(servers, "outgrown", REQUESTS), within_s=WITHIN_S)


async def test_an_offset_committed_for_an_earlier_topic_of_the_same_name_is_ignored(
    servers: str, database_url: str
) -> None:
    """As if a batch was committed after its topic had been deleted and created again."""
    async with toy(servers, database_url, runtime_for("late")) as made:
        await send(servers, [request(n) for n in range(30)], partition=0)
        await until(lambda: handled(made, range(30)))
        await until(lambda: committed(servers, "late", REQUESTS))
    async with AIOKafkaConsumer(bootstrap_servers=servers, group_id="late", enable_auto_commit=False) as consumer:
        place = TopicPartition(REQUESTS.name, 0)
        consumer.assign([place])
        async with admin(KafkaCluster(servers)) as client:
            known = (await client.list_consumer_group_offsets("late"))[place]
        assert known.metadata, "the commit contains the id of the topic"
        await delete(servers, REQUESTS)
        await create(servers, REQUESTS)
        await send(servers, [request(n) for n in range(100, 200)], partition=0)
        await consumer.commit({place: known})
    async with toy(servers, database_url, runtime_for("late")) as made:
        await until(lambda: handled(made, range(100, 200)), within_s=WITHIN_S)
        await until(lambda: committed(servers, "late", REQUESTS))


async def test_every_replica_reports_a_missing_topic_and_they_share_it_once_it_is_created_again(
    servers: str, database_url: str
) -> None:
    async with (
        toy(servers, database_url, runtime_for("pair")) as first,
        toy(servers, database_url, runtime_for("pair")) as second,
    ):
        pair = (first, second)
        await send(servers, [request(n) for n in range(60)], partition=None)
        await until(lambda: handled(first, range(60)))
        await delete(servers, REQUESTS)
        for made in pair:
            await until(partial(unready, made, f"{REQUESTS.name} is missing"), within_s=WITHIN_S)
        await create(servers, REQUESTS)
        await send(servers, [request(n) for n in range(100, 160)], partition=None)
        await until(lambda: handled(first, range(100, 160)), within_s=WITHIN_S)
        for made in pair:
            await until(partial(ready, made), within_s=WITHIN_S)
            assert made.runtime.unhealthy() is None


async def test_more_replicas_than_partitions_are_ready_and_added_partitions_are_consumed(
    servers: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = set[TopicWatch]()
    look = TopicWatch.look

    async def noting(watch: TopicWatch, consumer: AIOKafkaConsumer, *, at_once: bool = False) -> Any:
        there = await look(watch, consumer, at_once=at_once)
        if there is not None:
            looked.add(watch)
        return there

    monkeypatch.setattr(TopicWatch, "look", noting)
    monkeypatch.setattr(topic_watch, "LOOK_EVERY_S", 1.0)
    async with toy(servers, database_url, runtime_for("many")) as first:
        async with AsyncExitStack() as spare:
            others = [toy(servers, database_url, runtime_for("many")) for _ in range(PARTITIONS)]
            made = [first, *[await spare.enter_async_context(other) for other in others]]
            await send(servers, [request(n) for n in range(60)], partition=None)
            await until(lambda: handled(first, range(60)), within_s=WITHIN_S)
            looked.clear()

            async def all_looked() -> bool:
                return len(looked) == len(made)

            await until(all_looked)
            assert [each.runtime.unready() for each in made] == [None] * len(made)
        async with admin(KafkaCluster(servers)) as client:
            await client.create_partitions({REQUESTS.name: NewPartitions(PARTITIONS + 2)})
        await send(servers, [request(n) for n in range(100, 110)], partition=PARTITIONS + 1)
        await until(lambda: handled(first, range(100, 110)), within_s=WITHIN_S)
        await until(lambda: ready(first), within_s=WITHIN_S)


async def test_a_topic_with_too_few_partitions_is_reported_and_consumed(servers: str, database_url: str) -> None:
    await delete(servers, REQUESTS)
    async with admin(KafkaCluster(servers)) as client:
        await client.create_topics([NewTopic(REQUESTS.name, 1, 1)])
    async with toy(servers, database_url, runtime_for("few")) as made:
        await send(servers, [request(n) for n in range(5)], partition=0)
        await until(lambda: handled(made, range(5)), within_s=WITHIN_S)
        await until(lambda: unready(made, f"{REQUESTS.name} has 1 of {PARTITIONS} partitions"))
        assert made.runtime.unhealthy() is None


async def test_messages_for_a_missing_topic_stay_in_the_outbox_and_do_not_delay_others(
    servers: str, database_url: str
) -> None:
    async with toy(servers, database_url, runtime_for("writer"), consuming=False) as made:
        outbox = made.outbox
        async with outbox.transaction() as transaction:
            transaction.emit(started(job(0)), None)
        await until(lambda: published(made, JOBS))
        await delete(servers, JOBS)
        for burst in range(3):
            # The first messages go to a topic that the producer still has in its metadata.
            async with outbox.transaction() as transaction:
                for n in range(30):
                    transaction.emit(started(job(100 * burst + n + 1)), None)
                wish = CancelRequested(job_id=job(burst), occurred_at=datetime.now(UTC), tenant="toy")
                transaction.emit(wish, None)
            await until(lambda: published(made, REQUESTS), within_s=WITHIN_S)
        assert await made.waiting() == 90
        assert made.runtime.unhealthy() is None
        await create(servers, JOBS)
        await until(lambda: published(made, JOBS), within_s=WITHIN_S)
        assert made.runtime.unhealthy() is None
    told = {record.key for record in await read(servers, JOBS.name, 90)}
    assert told == {job(100 * burst + n + 1).encode() for burst in range(3) for n in range(30)}


async def published(made: Toy, topic: Topic) -> bool:
    """Whether the outbox contains no message for the topic."""
    return not await made.pool.fetchval("SELECT count(*) FROM outbox WHERE topic = $1", topic.name)


async def test_no_topic_is_created_with_fewer_copies_than_asked_for(servers: str) -> None:
    sparse = KafkaCluster(servers, names=TopicNames("sparse."))
    with pytest.raises(NotYet, match="has 1 broker up, too few for 3 copies of each topic, and no topic was created: "):
        await ensure_topics(sparse, 3)
    assert await describe(sparse, TOPICS) == {}
    assert (await ensure_topics(KafkaCluster(servers), 3)).keys() == {topic.name for topic in TOPICS}


async def test_how_many_brokers_confirm_a_record_is_known(servers: str) -> None:
    assert await min_in_sync(KafkaCluster(servers), [REQUESTS.name, JOBS.name]) == {REQUESTS.name: 1, JOBS.name: 1}


async def test_segue_dlq_names_a_missing_topic_and_does_not_create_it(servers: str) -> None:
    await delete(servers, DEAD_LETTERS)
    env = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": servers}
    pipes: dict[str, Any] = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.STDOUT}
    command = await asyncio.create_subprocess_exec(sys.executable, "-m", "segue_cli", "dlq", env=env, **pipes)
    printed, _ = await asyncio.wait_for(command.communicate(), patient(60))
    assert command.returncode == 78
    assert f"has no topic {DEAD_LETTERS.name}" in printed.decode()
    async with admin(KafkaCluster(servers)) as client:
        assert DEAD_LETTERS.name not in set(await client.list_topics())
