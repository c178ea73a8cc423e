"""A partition that cannot be written holds up no other, and no row is deleted that Kafka has not confirmed."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Any

import pytest
import tests.chassis.toy as toys
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, NodeNotReadyError
from tests.chassis.toy import Toy, job, read, runtime_for, started, toy, until
from tests.patience import patient

from chassis.kafka import outbox
from chassis.kafka.broker import SegueBroker, client_of, make_broker, publish
from chassis.kafka.producer import lanes
from chassis.kafka.producer.lanes import publish_all
from contracts.envelope import Record
from contracts.topics import COMMANDS, JOBS, MAX_MESSAGE_BYTES, PARTITIONS, TOPICS
from segue_cli.local.kafka import kafka

SIZES = {topic.name: PARTITIONS for topic in TOPICS}
BROKERS = 6
"""Of as many, with three copies each, partitions next to each other have their leaders on different brokers."""
NEVER_S = 3600


def lose_leader(patch: pytest.MonkeyPatch, client: Any, bad: TopicPartition) -> None:
    """The metadata names no leader of the partition any more."""
    leader = client.cluster.leader_for_partition
    patch.setattr(client.cluster, "leader_for_partition", lambda place: -1 if place == bad else leader(place))


def lose_broker(patch: pytest.MonkeyPatch, client: Any, bad: TopicPartition) -> None:
    """The broker that leads the partition cannot be reached any more."""
    send, leader = client.send, client.cluster.leader_for_partition(bad)

    async def sent(node: int, *given: Any, **named: Any) -> Any:
        if node == leader:
            raise NodeNotReadyError
        return await send(node, *given, **named)

    patch.setattr(client, "send", sent)


def place_of(broker: SegueBroker, n: int) -> TopicPartition:
    producer: Any = client_of(broker)
    return TopicPartition(JOBS.name, producer._partition(JOBS.name, None, None, None, job(n).encode(), None))


def numbers(broker: SegueBroker, of: Callable[[TopicPartition], bool], count: int = 4) -> list[int]:
    """Numbers of jobs of such partitions."""
    return [n for n in range(1, 1000) if of(place_of(broker, n))][:count]


async def commit(made: Toy, jobs: Sequence[int]) -> None:
    async with made.outbox.transaction() as transaction:
        for n in jobs:
            transaction.emit(started(job(n)), None)


async def stored(made: Toy) -> set[str]:
    return {row["key"].decode() for row in await made.pool.fetch("SELECT key FROM outbox")}


async def gone(made: Toy, but: Set[str]) -> bool:
    return await stored(made) <= but


@pytest.mark.parametrize("leaderless", [True, False])
async def test_rows_of_other_partitions_are_published(
    database_url: str, monkeypatch: pytest.MonkeyPatch, leaderless: bool
) -> None:
    monkeypatch.setattr(outbox, "RELAY_AGE_S", 0.4)
    monkeypatch.setattr(outbox, "PUBLISH_LIMIT_S", patient(2))
    # What waits for the partition waits for longer than the test.
    monkeypatch.setattr(toys, "make_broker", partial(make_broker, request_timeout_s=NEVER_S))
    async with (
        kafka(SIZES, brokers=BROKERS) as cluster,
        toy(cluster.bootstrap_servers, database_url, runtime_for(), consuming=False) as made,
    ):
        await commit(made, [0])
        await until(lambda: gone(made, set()))
        client: Any = client_of(made.broker).client
        queues: Any = client_of(made.broker)._message_accumulator._batches
        bad = place_of(made.broker, 0)
        leader = client.cluster.leader_for_partition
        stuck = numbers(made.broker, lambda place: place == bad)
        healthy = numbers(made.broker, lambda place: leader(place) != leader(bad))

        async def tried_in_vain() -> bool:
            return bool((queue := queues.get(bad)) and queue[0].retry_count)

        with monkeypatch.context() as patch, monkeypatch.context() as away:
            lose_broker(away, client, bad)
            await commit(made, [stuck[0], healthy[0]])
            await until(tried_in_vain)
            if leaderless:
                lose_leader(patch, client, bad)
                away.undo()
            for one, other in zip(stuck[1:], healthy[1:], strict=True):
                await commit(made, [one, other])
            waiting = {job(n) for n in stuck}
            await until(lambda: gone(made, waiting))
            assert await stored(made) == waiting
        await until(lambda: gone(made, set()))
        assert made.broker.lost is None
        keys = {record.key for record in await read(cluster.bootstrap_servers, JOBS.name, 9)}
        assert keys == {job(n).encode() for n in [0, *stuck, *healthy]}


def record(n: int, value: bytes = b"value") -> Record:
    return Record(JOBS.name, job(n).encode(), value, ())


async def test_a_record_is_not_handed_over_after_one_of_its_partition_that_was_not_taken(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Record] = []

    async def once_late(broker: SegueBroker, given: Record) -> Any:
        if given.value == b"late":
            raise KafkaTimeoutError
        taken.append(given)
        return await publish(broker, given)

    monkeypatch.setattr(lanes, "publish", once_late)
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        await commit(made, [0])
        await until(lambda: gone(made, set()))
        same, *_ = numbers(made.broker, lambda place: place == place_of(made.broker, 0))
        other, *_ = numbers(made.broker, lambda place: place != place_of(made.broker, 0))
        taken.clear()
        given = [record(0, b"late"), record(other), record(0), record(same), record(other)]
        outcomes = await publish_all(made.broker, given, patient(60))
    assert [type(outcome) for outcome in outcomes] == [
        KafkaTimeoutError,
        type(None),
        KafkaTimeoutError,
        KafkaTimeoutError,
        type(None),
    ]
    assert taken == [record(other), record(other)]


async def test_what_a_job_goes_on_with_is_handed_over_before_what_only_reports_it(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    async def noted(broker: SegueBroker, given: Record) -> Any:
        taken.append(given.topic)
        return await publish(broker, given)

    monkeypatch.setattr(lanes, "publish", noted)
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        command, event = (Record(topic.name, job(0).encode(), b"value", ()) for topic in (COMMANDS["fal"], JOBS))
        assert await publish_all(made.broker, [event, event, command], patient(60)) == [None, None, None]
    assert taken == [COMMANDS["fal"].name, JOBS.name, JOBS.name]


async def test_a_record_that_is_too_large_is_left_out(embedded_kafka: str, database_url: str) -> None:
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as made:
        too_large = record(0, bytes(MAX_MESSAGE_BYTES + 1))
        outcomes = await publish_all(made.broker, [too_large, record(0)], patient(60))
    assert [type(outcome) for outcome in outcomes] == [MessageSizeTooLargeError, type(None)]


async def test_the_next_rows_do_not_wait_until_those_before_them_are_confirmed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PUBLISH_LIMIT_S", NEVER_S)
    monkeypatch.setattr(outbox, "LINGER_S", 0)
    async with (
        kafka(SIZES, brokers=BROKERS) as cluster,
        toy(cluster.bootstrap_servers, database_url, runtime_for(), consuming=False) as made,
    ):
        await commit(made, [0])
        await until(lambda: gone(made, set()))
        client: Any = client_of(made.broker).client
        bad, leader = place_of(made.broker, 0), client.cluster.leader_for_partition
        with monkeypatch.context() as away:
            lose_broker(away, client, bad)
            await commit(made, [0])
            for n in numbers(made.broker, lambda place: leader(place) != leader(bad)):
                await commit(made, [n])
            await until(lambda: gone(made, {job(0)}))
            assert await stored(made) == {job(0)}
        await until(lambda: gone(made, set()))
