"""The check of the cluster before a service starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError

from chassis.errors import CannotStart
from chassis.kafka import topics
from chassis.kafka.metadata import describe_topics
from chassis.kafka.topics import require_topics
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import TOPICS, TopicNames


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


async def test_if_no_broker_answers_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.kafka.topics.START_LIMIT_S", 0.3)
    with pytest.raises(CannotStart, match=r"^KAFKA_BOOTSTRAP_SERVERS: no broker answered at "):
        await require_topics(KafkaCluster("127.0.0.1:9"), reads=TOPICS)
