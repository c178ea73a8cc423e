"""The check of the cluster before a service starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import NodeNotReadyError

from chassis.errors import CannotStart
from chassis.kafka.topics import require_topics
from contracts.topics import TOPICS


async def test_a_broker_that_disconnects_during_the_check_does_not_prevent_the_start(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, asked = AIOKafkaAdminClient.list_topics, []

    async def unsteady(self: Any) -> Any:
        asked.append(self)
        if len(asked) == 1:
            raise NodeNotReadyError
        return await ask(self)

    monkeypatch.setattr(AIOKafkaAdminClient, "list_topics", unsteady)
    await require_topics(embedded_kafka, TOPICS)
    assert len(asked) == 2


async def test_a_missing_topic_is_named_with_the_command_that_creates_it(embedded_kafka: str) -> None:
    other = replace(TOPICS[0], name="absent")
    with pytest.raises(CannotStart, match="the cluster lacks absent; run: segue topics"):
        await require_topics(embedded_kafka, [*TOPICS, other])


async def test_if_no_broker_answers_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.kafka.topics.START_LIMIT_S", 0.3)
    with pytest.raises(CannotStart, match=r"^KAFKA_BOOTSTRAP_SERVERS: no broker answered at "):
        await require_topics("127.0.0.1:9", TOPICS)
