"""Whether a group has consumed up to now, asked of a cluster that is up, behind, away, or without the topic."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from tests.chassis.toy import job, request, runtime_for, send, toy, until
from tests.patience import patient

from chassis.kafka import consumer_lag
from chassis.kafka.consumer_lag import GroupProgress
from contracts.topics import PARTITIONS, REQUESTS
from segue_cli.local.kafka import kafka

KEYS = [job(n) for n in range(40)]


async def partition_of(servers: str, n: int) -> int:
    """Where the producer itself puts the n-th request."""
    await send(servers, [request(n)], partition=None)
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        places = [TopicPartition(REQUESTS.name, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        (found,) = (place.partition for place in places if ends[place])
        return found


async def test_a_group_that_has_consumed_everything_has_heard_up_to_now(embedded_kafka: str, database_url: str) -> None:
    await send(embedded_kafka, [request(n) for n in range(40)], partition=None)
    progress = GroupProgress(embedded_kafka, REQUESTS, "toy")
    async with progress.running():
        before = await progress.heard_until(KEYS)
        assert set(before) == set(KEYS)
        assert set(before.values()) == {None}, "nothing is committed yet"

        async with toy(embedded_kafka, database_url, runtime_for()):

            async def all_heard() -> bool:
                return None not in (await progress.heard_until(KEYS)).values()

            await until(all_heard)
        asked_at = time.monotonic()
        heard = await progress.heard_until(KEYS)
        assert all(moment and 0 <= moment - asked_at <= 5 for moment in heard.values())


async def test_only_the_partition_of_a_key_counts_and_it_is_the_producers_partition(embedded_kafka: str) -> None:
    behind = await partition_of(embedded_kafka, 7)
    progress = GroupProgress(embedded_kafka, REQUESTS, "toy")
    async with progress.running():
        heard = await progress.heard_until(KEYS)
        assert heard[job(7)] is None
        deaf = {key for key, moment in heard.items() if moment is None}
        assert 0 < len(deaf) < len(KEYS), "an empty partition is consumed to its end, whoever asks"

        async with AIOKafkaConsumer(bootstrap_servers=embedded_kafka, group_id="toy") as consumer:
            place = TopicPartition(REQUESTS.name, behind)
            consumer.assign([place])
            await consumer.commit({place: 1})
            assert (await progress.heard_until([job(7)]))[job(7)] is not None
            # As if the topic had been deleted and made anew since: beyond its end nothing was consumed.
            await consumer.commit({place: 100})
            assert (await progress.heard_until([job(7)]))[job(7)] is None


async def test_where_the_topic_is_missing_or_no_broker_answers_nothing_is_known(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_lag, "ANSWER_LIMIT_S", 0.5)
    for servers in (embedded_kafka, "127.0.0.1:9"):
        progress = GroupProgress(servers, replace(REQUESTS, name="absent.topic"), "toy")
        async with progress.running():
            assert await progress.heard_until(["a", "b"]) == {"a": None, "b": None}


async def test_it_answers_in_time_while_kafka_is_away_and_again_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer_lag, "ANSWER_LIMIT_S", 2.0)
    sizes = {REQUESTS.name: PARTITIONS}
    async with kafka(sizes) as probe:
        port = int(probe.bootstrap_servers.rpartition(":")[2])
    progress = GroupProgress(f"127.0.0.1:{port}", REQUESTS, "toy")
    async with progress.running():
        async with kafka(sizes, port=port):
            assert None not in (await progress.heard_until(KEYS)).values()
        async with asyncio.timeout(patient(6)):
            assert set((await progress.heard_until(KEYS)).values()) == {None}
        async with kafka(sizes, port=port):
            assert None not in (await progress.heard_until(KEYS)).values()


async def test_a_connection_that_nobody_uses_is_closed(embedded_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_lag, "_UNUSED_S", 0.05)
    progress = GroupProgress(embedded_kafka, REQUESTS, "toy")
    async with progress.running():
        assert None not in (await progress.heard_until(KEYS)).values()
        client = progress._client

        async def closed() -> bool:
            return progress._client is None and getattr(client, "_closed", False) is True

        await until(closed)
        assert None not in (await progress.heard_until(KEYS)).values()


async def test_so_is_one_whose_question_was_given_up(embedded_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_lag, "_UNUSED_S", 0.05)
    progress = GroupProgress(embedded_kafka, REQUESTS, "toy")
    asked = asyncio.Event()

    async def hang(_keys: object) -> dict[str, float | None]:
        await progress._connected()
        asked.set()
        return await asyncio.Future[dict[str, float | None]]()

    monkeypatch.setattr(progress, "_ask", hang)
    async with progress.running():
        question = asyncio.create_task(progress.heard_until(KEYS))
        await asked.wait()
        question.cancel()
        await asyncio.gather(question, return_exceptions=True)

        async def closed() -> bool:
            return progress._client is None

        await until(closed)
