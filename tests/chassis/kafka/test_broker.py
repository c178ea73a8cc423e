"""The check of the cluster before a service starts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError
from tests.patience import patient

from chassis.errors import CannotStart
from chassis.kafka import topics
from chassis.kafka.broker import connected, make_broker, publish
from chassis.kafka.metadata import describe_topics
from chassis.kafka.topics import require_topics
from chassis.observability.telemetry import make_telemetry
from chassis.runtime.runtime import Runtime
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Record
from contracts.topics import JOBS, PARTITIONS, TOPICS, TopicNames
from segue_cli.local.kafka import cluster


def record(n: int) -> Record:
    return Record(JOBS.name, b"key", f"{n}".encode(), ())


async def test_a_broker_that_disconnects_during_the_check_does_not_prevent_the_start(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def unsteady(*arguments: Any) -> Any:
        asked.append(arguments)
        if len(asked) == 1:
            raise NodeNotReadyError
        return await describe_topics(*arguments)

    monkeypatch.setattr(topics, "describe_topics", unsteady)
    await require_topics(KafkaCluster(embedded_kafka), reads=TOPICS)
    assert len(asked) == 2


async def test_a_missing_topic_is_named_with_the_command_that_creates_it(embedded_kafka: str) -> None:
    other = replace(TOPICS[0], name="absent")
    with pytest.raises(CannotStart, match="the cluster lacks absent; run: segue topics"):
        await require_topics(KafkaCluster(embedded_kafka), reads=TOPICS, writes=[other])


async def test_the_topics_of_another_prefix_are_missing(embedded_kafka: str) -> None:
    other = KafkaCluster(embedded_kafka, names=TopicNames("staging."))
    with pytest.raises(CannotStart, match=r"the cluster lacks staging\.segue\.attempts, staging\.segue\.callbacks, "):
        await require_topics(other, reads=TOPICS)


async def test_a_stop_does_not_wait_for_kafka_to_come_back() -> None:
    runtime = Runtime("orchestrator", make_telemetry("orchestrator", None))
    names = {topic.name: PARTITIONS for topic in TOPICS}
    async with AsyncExitStack() as stack:
        with cluster(names, brokers=1, port=0) as servers:
            broker = make_broker(KafkaCluster(servers), "orchestrator")
            await stack.enter_async_context(connected(broker, runtime, writes=TOPICS))
            await (await publish(broker, record(1)))
        sent = await publish(broker, record(2))
        async with asyncio.timeout(patient(15)):
            await stack.aclose()
    assert not sent.done() or sent.exception() is not None


async def test_if_no_broker_answers_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.kafka.topics.START_LIMIT_S", 0.3)
    with pytest.raises(CannotStart, match=r"^KAFKA_BOOTSTRAP_SERVERS: no broker answered at "):
        await require_topics(KafkaCluster("127.0.0.1:9"), reads=TOPICS)
