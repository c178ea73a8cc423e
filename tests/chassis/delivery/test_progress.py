"""The progress of a consumer: its lag, also while it is blocked, and how a standstill is reported."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import REGISTRY
from tests.chassis.toy import Toy, job, request, runtime_for, send, toy, until

from chassis.delivery import progress
from chassis.delivery.polling import poll
from chassis.delivery.progress import ConsumerProgress
from contracts.envelope import Record
from contracts.topics import REQUESTS
from segue_cli.local.postgres import LocalPostgres, postgres


@pytest_asyncio.fixture
async def own_postgres() -> AsyncIterator[LocalPostgres]:
    async with postgres() as server:
        yield server


def shown(partition: int) -> float | None:
    labels = {"topic": REQUESTS.name, "partition": str(partition)}
    return REGISTRY.get_sample_value("segue_consumer_lag_messages", labels)


async def handled(made: Toy, *expected: int) -> bool:
    return set(await made.commits()) >= {job(n) for n in expected}


async def ready(made: Toy) -> bool:
    return made.runtime.unready() is None


async def test_a_blocked_consumer_becomes_unready_after_a_while_and_its_lag_is_still_updated(
    embedded_kafka: str, own_postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "ASK_EVERY_S", 0.1)
    monkeypatch.setattr(progress, "STANDSTILL_S", 3.0)
    async with toy(embedded_kafka, own_postgres.url, runtime_for()) as made:
        await send(embedded_kafka, [request(n) for n in range(10)])
        await until(lambda: handled(made, *range(10)))
        await own_postgres.stop("immediate")
        await send(embedded_kafka, [request(n) for n in range(10, 60)])

        async def unready() -> bool:
            return f"{REQUESTS.name} 0 has messages, and none was processed for" in str(made.runtime.unready())

        async def shows(count: int) -> bool:
            return shown(0) == count

        await until(lambda: shows(50))
        await until(unready)
        await send(embedded_kafka, [request(n) for n in range(60, 80)])
        await until(lambda: shows(70))
        assert made.runtime.unhealthy() is None
        assert "the last error: " in str(made.runtime.unready())
        await own_postgres.start()
        await until(lambda: handled(made, *range(80)))
        await until(lambda: ready(made))
        await until(lambda: shows(0))


async def test_messages_processed_one_after_the_other_are_no_standstill(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "STANDSTILL_S", 0.5)
    monkeypatch.setattr("chassis.delivery.consumer.BATCH_RECORDS", 1)
    bad = Record(REQUESTS.name, b"key", b"garbage", ())
    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        for n in range(30):
            await send(embedded_kafka, [request(n), bad])
            assert made.runtime.unready() is None
        await until(lambda: handled(made, *range(30)))
        await until(lambda: ready(made))


async def test_lag_is_shown_only_for_assigned_partitions(embedded_kafka: str) -> None:
    await send(embedded_kafka, [request(n) for n in range(5)], partition=0)
    await send(embedded_kafka, [request(n) for n in range(7)], partition=1)
    zero, one = (TopicPartition(REQUESTS.name, n) for n in range(2))
    async with AIOKafkaConsumer(bootstrap_servers=embedded_kafka, auto_offset_reset="earliest") as consumer:
        stands = ConsumerProgress("toy")
        consumer.assign([zero, one])
        for place in (zero, one):
            assert await consumer.position(place) == 0
        await stands.measure(consumer)
        assert (shown(0), shown(1)) == (5, 7)
        assert len(await poll(consumer, timeout_ms=5000, max_records=3)) == 3
        await stands.measure(consumer, batch_in_hand=True)
        assert (shown(0), shown(1)) == (5, 7), "what is in hand is not done"
        await stands.measure(consumer)
        assert sum((shown(0) or 0, shown(1) or 0)) == 9
        consumer.assign([one])
        await consumer.position(one)
        await stands.measure(consumer)
        assert shown(0) is None
        assert shown(1) is not None


def test_a_poll_that_does_not_return_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    stands = ConsumerProgress("toy")
    assert stands.problem() is None
    with stands.polling():
        assert stands.problem() is None
        monkeypatch.setattr(progress, "POLL_LIMIT_S", -1.0)
        assert "the group has been rebalancing" in str(stands.problem())
    assert stands.problem() is None
