"""How a consumer asks for its topics: cheaply where it has them all, and not in vain where its group is not told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError
from aiokafka.protocol.admin import DescribeGroupsRequest

from chassis.kafka import topic_watch
from chassis.kafka.topic_watch import TopicWatch
from contracts.topics import DEAD_LETTERS, JOBS, REQUESTS


@pytest_asyncio.fixture
async def member(embedded_kafka: str) -> AsyncIterator[AIOKafkaConsumer]:
    """The only member of its group, which has all of one topic."""
    async with AIOKafkaConsumer(REQUESTS.name, bootstrap_servers=embedded_kafka, group_id="toy") as consumer:
        await consumer.getmany(timeout_ms=100)
        yield consumer


class Line:
    """The consumer's own line to the cluster, on which questions for groups are counted, and may fail."""

    def __init__(self, consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.failure: Exception | None = None
        self._send: Callable[..., Awaitable[Any]] = consumer._client.send
        monkeypatch.setattr(consumer._client, "send", self)

    async def __call__(self, node: Any, request: Any, **options: Any) -> Any:
        if isinstance(request, DescribeGroupsRequest):
            self.asked += 1
            if self.failure is not None:
                raise self.failure
        return await self._send(node, request, **options)


async def test_a_replica_that_has_all_partitions_asks_for_the_topics_alone(
    member: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(member, monkeypatch)
    watch = TopicWatch((REQUESTS,), "toy", needed=(DEAD_LETTERS,))
    there = await watch.look(member, at_once=True)
    assert there is not None
    assert set(there) == {REQUESTS.name, DEAD_LETTERS.name}
    assert watch.problem() is None
    assert line.asked == 0

    partial = TopicWatch((REQUESTS, JOBS), "toy")
    await partial.look(member, at_once=True)
    assert line.asked == 1, "somebody else has to have the other topic"


@pytest.mark.parametrize("failure", [RequestTimedOutError(), KafkaConnectionError(), OSError(), TimeoutError()])
async def test_where_the_group_is_not_told_the_topics_are_known_and_after_a_while_it_counts_as_not_consuming(
    member: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    line = Line(member, monkeypatch)
    line.failure = failure
    watch = TopicWatch((REQUESTS, JOBS), "toy")
    there = await watch.look(member, at_once=True)
    assert there is not None
    assert set(there) == {REQUESTS.name, JOBS.name}
    assert watch.problem() is None

    monkeypatch.setattr(topic_watch, "SHARING_LIMIT_S", 0.0)
    assert await watch.look(member, at_once=True) is not None
    for topic in (REQUESTS, JOBS):
        assert f"{topic.name} is not consumed: " in str(watch.problem())

    line.failure = None
    await watch.look(member, at_once=True)
    assert f"{JOBS.name} is not consumed: no replica has partitions" in str(watch.problem())
    assert REQUESTS.name not in str(watch.problem())
