"""The progress of a group: up to date, behind, and with an unavailable cluster or a missing topic."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from tests.chassis.toy import job, request, runtime_for, send, toy, until
from tests.patience import patient

from chassis.kafka import consumer_lag
from chassis.kafka.consumer_lag import GroupProgress
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import PARTITIONS, REQUESTS
from segue_cli.local.kafka import kafka

KEYS = [job(n) for n in range(40)]


async def partition_of(servers: str, n: int) -> int:
    """The partition to which a producer sends the n-th request."""
    await send(servers, [request(n)], partition=None)
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        places = [TopicPartition(REQUESTS.name, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        (found,) = (place.partition for place in places if ends[place])
        return found


async def test_a_group_that_has_consumed_everything_is_up_to_date(embedded_kafka: str, database_url: str) -> None:
    await send(embedded_kafka, [request(n) for n in range(40)], partition=None)
    progress = GroupProgress(KafkaCluster(embedded_kafka), REQUESTS, "toy")
    async with progress.running():
        before = await progress.heard_until(KEYS)
        assert set(before) == set(KEYS)
        assert set(before.values()) == {None}, "nothing is committed yet"

        async with toy(embedded_kafka, database_url, runtime_for()):

            async def all_consumed() -> bool:
                return None not in (await progress.heard_until(KEYS)).values()

            await until(all_consumed)
        asked_at = time.monotonic()
        heard = await progress.heard_until(KEYS)
        assert all(moment and 0 <= moment - asked_at <= 5 for moment in heard.values())


async def test_only_the_partition_to_which_a_producer_sends_the_key_counts(embedded_kafka: str) -> None:
    behind = await partition_of(embedded_kafka, 7)
    progress = GroupProgress(KafkaCluster(embedded_kafka), REQUESTS, "toy")
    async with progress.running():
        heard = await progress.heard_until(KEYS)
        assert heard[job(7)] is None
        behind_keys = {key for key, moment in heard.items() if moment is None}
        assert 0 < len(behind_keys) < len(KEYS), "an empty partition is consumed to its end"

        async with AIOKafkaConsumer(bootstrap_servers=embedded_kafka, group_id="toy") as consumer:
            place = TopicPartition(REQUESTS.name, behind)
            consumer.assign([place])
            await consumer.commit({place: 1})
            assert (await progress.heard_until([job(7)]))[job(7)] is not None
            # As if the topic had been deleted and created again: an offset beyond its end proves nothing.
            await consumer.commit({place: 100})
            assert (await progress.heard_until([job(7)]))[job(7)] is None


async def test_a_commit_that_follows_the_query_counts(embedded_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under load a group has always read records whose offsets it has not committed yet."""
    for limit in ("CATCH_UP_S", "ANSWER_LIMIT_S"):
        monkeypatch.setattr(consumer_lag, limit, patient(30))
    place = TopicPartition(REQUESTS.name, await partition_of(embedded_kafka, 7))
    found_behind = asyncio.Event()
    bare: Any = AIOKafkaConsumer.committed

    async def committed(self: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
        offset: int | None = await bare(self, partition)
        found_behind.set()
        return offset

    monkeypatch.setattr(AIOKafkaConsumer, "committed", committed)
    progress = GroupProgress(KafkaCluster(embedded_kafka), REQUESTS, "toy")
    async with (
        progress.running(),
        AIOKafkaConsumer(bootstrap_servers=embedded_kafka, group_id="toy") as consumer,
    ):
        consumer.assign([place])
        asking = asyncio.create_task(progress.heard_until([job(7)]))
        await found_behind.wait()
        asked = time.monotonic()
        await consumer.commit({place: 1})
        heard = (await asking)[job(7)]
        assert heard is not None
        assert heard <= asked


async def test_a_group_that_never_catches_up_is_known_to_have_read_what_an_earlier_query_found(
    embedded_kafka: str,
) -> None:
    place = TopicPartition(REQUESTS.name, await partition_of(embedded_kafka, 7))
    progress = GroupProgress(KafkaCluster(embedded_kafka), REQUESTS, "toy")
    async with (
        progress.running(),
        AIOKafkaConsumer(bootstrap_servers=embedded_kafka, group_id="toy") as consumer,
    ):
        consumer.assign([place])
        first_asked = time.monotonic()
        assert (await progress.heard_until([job(7)]))[job(7)] is None
        first_answered = time.monotonic()
        # By the time the record is consumed, there is another one, and so on.
        await send(embedded_kafka, [request(7)], partition=None)
        await consumer.commit({place: 1})
        heard = (await progress.heard_until([job(7)]))[job(7)]
        assert heard is not None
        assert first_asked <= heard <= first_answered
        assert (await progress.heard_until([job(7)]))[job(7)] is None


async def test_with_a_missing_topic_or_without_a_broker_the_progress_is_unknown(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_lag, "ANSWER_LIMIT_S", 0.5)
    for servers in (embedded_kafka, "127.0.0.1:9"):
        progress = GroupProgress(KafkaCluster(servers), replace(REQUESTS, name="absent.topic"), "toy")
        async with progress.running():
            assert await progress.heard_until(["a", "b"]) == {"a": None, "b": None}


async def test_a_query_ends_in_time_while_kafka_is_unavailable_and_succeeds_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer_lag, "ANSWER_LIMIT_S", 2.0)
    sizes = {REQUESTS.name: PARTITIONS}
    async with kafka(sizes) as probe:
        port = int(probe.bootstrap_servers.rpartition(":")[2])
    progress = GroupProgress(KafkaCluster(f"127.0.0.1:{port}"), REQUESTS, "toy")
    async with progress.running():
        async with kafka(sizes, port=port):
            assert None not in (await progress.heard_until(KEYS)).values()
        async with asyncio.timeout(patient(6)):
            assert set((await progress.heard_until(KEYS)).values()) == {None}
        async with kafka(sizes, port=port):
            assert None not in (await progress.heard_until(KEYS)).values()


def connections(servers: str) -> int:
    """The number of this process's connections to the broker."""
    port = int(servers.rpartition(":")[2])
    return sum(1 for each in psutil.Process().net_connections("tcp") if each.raddr and each.raddr.port == port)


async def test_an_unused_connection_is_closed(embedded_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_lag, "UNUSED_S", 0.05)
    progress = GroupProgress(KafkaCluster(embedded_kafka), REQUESTS, "toy")

    async def closed() -> bool:
        return connections(embedded_kafka) == 0

    async with progress.running():
        assert None not in (await progress.heard_until(KEYS)).values()
        await until(closed)
        assert None not in (await progress.heard_until(KEYS)).values()


async def test_the_connection_of_a_cancelled_query_is_closed_too(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_lag, "UNUSED_S", 0.05)
    progress = GroupProgress(KafkaCluster(embedded_kafka), REQUESTS, "toy")
    asked = asyncio.Event()

    async def hang(_consumer: object, _places: object) -> None:
        asked.set()
        await asyncio.Future[None]()

    monkeypatch.setattr(AIOKafkaConsumer, "end_offsets", hang)
    async with progress.running():
        query = asyncio.create_task(progress.heard_until(KEYS))
        await asked.wait()
        assert connections(embedded_kafka) > 0
        query.cancel()
        await asyncio.gather(query, return_exceptions=True)

        async def closed() -> bool:
            return connections(embedded_kafka) == 0

        await until(closed)
