"""The tail reconnects after a failure, whatever aiokafka raises when its consumer is stopped."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import datetime

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from tests.chassis.toy import job, leaking_stop, request, runtime_for, send, until

from chassis.delivery import tail
from chassis.delivery.polling import idle, poll
from chassis.delivery.tail import Tail
from chassis.kafka.records import Records
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Envelope
from contracts.topics import REQUESTS


@pytest.mark.parametrize("error", [KafkaError("the connection broke"), TimeoutError("the connection broke")], ids=repr)
async def test_the_tail_reconnects_although_its_consumer_leaks_a_cancellation(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    errors, jobs = [error], set[str]()

    async def failing_once(
        consumer: AIOKafkaConsumer,
        *,
        timeout_ms: int,
        max_records: int,
        without: AbstractSet[TopicPartition] = frozenset(),
    ) -> Records:
        if errors:
            raise errors.pop()
        return await poll(consumer, timeout_ms=timeout_ms, max_records=max_records, without=without)

    def take(envelope: Envelope, arrived_at: datetime | None) -> None:
        jobs.add(envelope.message.job_id)

    async def arrived() -> bool:
        return job(1) in jobs

    monkeypatch.setattr(AIOKafkaConsumer, "stop", leaking_stop)
    monkeypatch.setattr(tail, "poll", failing_once)
    runtime = runtime_for("tailing")
    with capture_logs() as logs:
        async with Tail(KafkaCluster(embedded_kafka), (REQUESTS,), take, runtime).running():
            await send(embedded_kafka, [request(1)])
            await until(arrived)
            assert runtime.unhealthy() is None
    assert [line["error"] for line in logs if "error" in line] == [repr(error)]


async def test_a_record_that_the_process_knows_is_read_and_not_decoded(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = list[str]()

    def read_messages() -> float:
        return REGISTRY.get_sample_value("segue_tail_messages_total", {"topic": REQUESTS.name}) or 0

    before = read_messages()

    async def all_read() -> bool:
        return read_messages() == before + 3

    def take(envelope: Envelope, arrived_at: datetime | None) -> None:
        jobs.append(envelope.message.job_id)

    def known(record: ConsumerRecord[bytes, bytes]) -> bool:
        return record.key == job(2).encode()

    following = Tail(KafkaCluster(embedded_kafka), (REQUESTS,), take, runtime_for("tailing"), has_taken=known)
    async with following.running():
        await send(embedded_kafka, [request(n) for n in (1, 2, 3)])
        await until(all_read)
    assert sorted(jobs) == sorted([job(1), job(3)])


async def test_what_the_tail_has_not_read_is_its_lag(embedded_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = True

    async def holding(
        consumer: AIOKafkaConsumer,
        *,
        timeout_ms: int,
        max_records: int,
        without: AbstractSet[TopicPartition] = frozenset(),
    ) -> Records:
        if not held:
            return await poll(consumer, timeout_ms=timeout_ms, max_records=max_records, without=without)
        await idle(consumer, timeout_ms=20)
        return ()

    async def lag(count: float) -> bool:
        return REGISTRY.get_sample_value("segue_tail_lag_messages", {"topic": REQUESTS.name}) == count

    monkeypatch.setattr(tail, "poll", holding)
    await send(embedded_kafka, [request(n) for n in range(5)])
    runtime = runtime_for("tailing")
    async with Tail(KafkaCluster(embedded_kafka), (REQUESTS,), lambda *_: None, runtime).running():
        await until(lambda: lag(5))
        held = False
        await until(lambda: lag(0))
