"""What a service asks of its cluster before it starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import NodeNotReadyError

from chassis.errors import CannotStart
from chassis.kafka.topics import require_topics
from contracts.topics import TOPICS


async def test_a_broker_that_goes_away_while_it_is_asked_is_no_reason_not_to_start(
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


async def test_a_topic_that_is_not_there_is_named_with_what_makes_it(embedded_kafka: str) -> None:
    other = replace(TOPICS[0], name="absent")
    with pytest.raises(CannotStart, match="the cluster lacks absent; run: segue topics"):
        await require_topics(embedded_kafka, [*TOPICS, other])


async def test_where_no_broker_answers_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.kafka.topics.START_LIMIT_S", 0.3)
    with pytest.raises(CannotStart, match=r"^KAFKA_BOOTSTRAP_SERVERS: no broker answered at "):
        await require_topics("127.0.0.1:9", TOPICS)
