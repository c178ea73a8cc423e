"""Topics that are deleted and created again under running services, on a real Apache Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewPartitions, NewTopic
from tests.chassis.toy import Toy, job, lag, read, request, runtime_for, send, started, toy, until
from tests.patience import patient

from chassis.kafka.topics import admin, create_topics
from chassis.observability.metrics import TOPIC_UNAVAILABLE
from contracts.messages.requests import CancelRequested
from contracts.topics import JOBS, PARTITIONS, REQUESTS, Topic

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

HEARD_WITHIN_S = 30


async def delete(servers: str, *topics: Topic) -> None:
    """Delete topics, and wait until the cluster does not know them any more."""
    names = [topic.name for topic in topics]
    async with asyncio.timeout(patient(20)), admin(servers) as client:
        await client.delete_topics(names)
        while set(await client.list_topics()) & set(names):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.02)


async def create(servers: str, *topics: Topic) -> None:
    assert set((await create_topics(servers, topics, replication=1)).values()) == {"created"}


async def handled(made: Toy, numbers: Iterable[int]) -> bool:
    return set(await made.commits()) >= {job(n) for n in numbers}


async def unready(made: Toy, *words: str) -> bool:
    return all(word in str(made.runtime.unready()) for word in words)


async def ready(made: Toy) -> bool:
    return made.runtime.unready() is None


async def looked(made: Toy) -> bool:
    """Whether it has looked at its topics since it was told that it is time to."""
    return made.consumer is not None and made.consumer._watch._due_at > 0


async def committed(servers: str, group: str, topic: Topic) -> bool:
    return set((await lag(servers, group, topic.name)).values()) == {0}


async def test_a_topic_that_is_gone_for_a_while_is_missed_at_once_and_heard_again_when_it_is_back(
    servers: str, database_url: str
) -> None:
    async with toy(servers, database_url, runtime_for("bereft"), topics=(REQUESTS, JOBS)) as made:
        await send(servers, [request(n) for n in range(100)], partition=None)
        await until(lambda: handled(made, range(100)))
        assert TOPIC_UNAVAILABLE.labels(REQUESTS.name)._value.get() == 0

        await delete(servers, REQUESTS)
        await until(lambda: unready(made, f"{REQUESTS.name} is missing"), within_s=HEARD_WITHIN_S)
        assert TOPIC_UNAVAILABLE.labels(REQUESTS.name)._value.get() == 1
        assert made.runtime.unhealthy() is None

        await create(servers, REQUESTS)
        await send(servers, [request(n) for n in range(100, 150)], partition=None)
        await until(lambda: handled(made, range(150)), within_s=HEARD_WITHIN_S)
        await until(lambda: ready(made), within_s=HEARD_WITHIN_S)
        await until(lambda: committed(servers, "bereft", REQUESTS))
        assert TOPIC_UNAVAILABLE.labels(REQUESTS.name)._value.get() == 0


async def test_nothing_is_skipped_of_a_topic_that_was_created_again_and_has_outgrown_the_old_positions(
    servers: str, database_url: str
) -> None:
    async with toy(servers, database_url, runtime_for("outgrown")) as made:
        await send(servers, [request(n) for n in range(30)], partition=0)
        await until(lambda: handled(made, range(30)))
        await until(lambda: committed(servers, "outgrown", REQUESTS))
        await delete(servers, REQUESTS)
        await create(servers, REQUESTS)
        await send(servers, [request(n) for n in range(100, 300)], partition=0)
        await until(lambda: handled(made, range(100, 300)), within_s=HEARD_WITHIN_S)
        await until(lambda: ready(made), within_s=HEARD_WITHIN_S)
        await until(lambda: committed(servers, "outgrown", REQUESTS), within_s=HEARD_WITHIN_S)


async def test_an_offset_that_was_committed_in_an_earlier_topic_of_the_same_name_is_not_believed(
    servers: str, database_url: str
) -> None:
    """As where the commit of a batch comes after its topic was deleted and created again."""
    async with toy(servers, database_url, runtime_for("late")) as made:
        await send(servers, [request(n) for n in range(30)], partition=0)
        await until(lambda: handled(made, range(30)))
        await until(lambda: committed(servers, "late", REQUESTS))
    async with AIOKafkaConsumer(bootstrap_servers=servers, group_id="late", enable_auto_commit=False) as consumer:
        place = TopicPartition(REQUESTS.name, 0)
        consumer.assign([place])
        known = (await consumer._coordinator.fetch_committed_offsets([place]))[place]
        assert known.metadata, "the commit names the topic's id"
        await delete(servers, REQUESTS)
        await create(servers, REQUESTS)
        await send(servers, [request(n) for n in range(100, 200)], partition=0)
        await consumer.commit({place: known})
    async with toy(servers, database_url, runtime_for("late")) as made:
        await until(lambda: handled(made, range(100, 200)), within_s=HEARD_WITHIN_S)
        await until(lambda: committed(servers, "late", REQUESTS))


async def test_every_replica_says_that_a_topic_is_missing_and_shares_it_again_when_it_is_back(
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
            await until(partial(unready, made, f"{REQUESTS.name} is missing"), within_s=HEARD_WITHIN_S)
        await create(servers, REQUESTS)
        await send(servers, [request(n) for n in range(100, 160)], partition=None)
        await until(lambda: handled(first, range(100, 160)), within_s=HEARD_WITHIN_S)
        for made in pair:
            await until(partial(ready, made), within_s=HEARD_WITHIN_S)
            assert made.runtime.unhealthy() is None


async def test_more_replicas_than_partitions_are_well_and_so_are_partitions_that_were_added(
    servers: str, database_url: str
) -> None:
    async with toy(servers, database_url, runtime_for("many")) as first:
        async with AsyncExitStack() as spare:
            others = [toy(servers, database_url, runtime_for("many")) for _ in range(PARTITIONS)]
            made = [first, *[await spare.enter_async_context(other) for other in others]]
            await send(servers, [request(n) for n in range(60)], partition=None)
            await until(lambda: handled(first, range(60)), within_s=HEARD_WITHIN_S)
            for each in made:
                assert each.consumer is not None
                each.consumer._watch._due_at = 0.0
                await until(partial(looked, each))
            assert [each.runtime.unready() for each in made] == [None] * len(made)
        async with admin(servers) as client:
            await client.create_partitions({REQUESTS.name: NewPartitions(PARTITIONS + 2)})
        await send(servers, [request(n) for n in range(100, 110)], partition=PARTITIONS + 1)
        await until(lambda: handled(first, range(100, 110)), within_s=HEARD_WITHIN_S)
        await until(lambda: ready(first), within_s=HEARD_WITHIN_S)


async def test_a_topic_with_too_few_partitions_is_consumed_and_said_to_be_so(servers: str, database_url: str) -> None:
    await delete(servers, REQUESTS)
    async with admin(servers) as client:
        await client.create_topics([NewTopic(REQUESTS.name, 1, 1)])
    async with toy(servers, database_url, runtime_for("few")) as made:
        await send(servers, [request(n) for n in range(5)], partition=0)
        await until(lambda: handled(made, range(5)), within_s=HEARD_WITHIN_S)
        await until(lambda: unready(made, f"{REQUESTS.name} has 1 of {PARTITIONS} partitions"))
        assert made.runtime.unhealthy() is None


async def test_what_is_published_while_its_topic_is_missing_stays_in_the_outbox_and_nothing_else_waits_for_it(
    servers: str, database_url: str
) -> None:
    async with toy(servers, database_url, runtime_for("writer"), consuming=False) as made:
        outbox = made.outbox
        async with outbox.transaction() as transaction:
            transaction.emit(started(job(0)), None)
        await until(lambda: published(made, JOBS))
        await delete(servers, JOBS)
        for burst in range(3):
            # The first burst goes to a topic that the producer still believes in.
            async with outbox.transaction() as transaction:
                for n in range(30):
                    transaction.emit(started(job(100 * burst + n + 1)), None)
                wish = CancelRequested(job_id=job(burst), occurred_at=datetime.now(UTC), tenant="toy")
                transaction.emit(wish, None)
            await until(lambda: published(made, REQUESTS), within_s=HEARD_WITHIN_S)
        assert await made.waiting() == 90
        assert made.runtime.unhealthy() is None
        await create(servers, JOBS)
        await until(lambda: published(made, JOBS), within_s=HEARD_WITHIN_S)
        assert made.runtime.unhealthy() is None
    told = {record.key for record in await read(servers, JOBS.name, 90)}
    assert told == {job(100 * burst + n + 1).encode() for burst in range(3) for n in range(30)}


async def published(made: Toy, topic: Topic) -> bool:
    """Whether nothing of a topic is left in the outbox."""
    return not await made.pool.fetchval("SELECT count(*) FROM outbox WHERE topic = $1", topic.name)
