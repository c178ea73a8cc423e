"""The topic watch: how many requests it sends, and its result if the group cannot be described."""

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
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import DEAD_LETTERS, JOBS, REQUESTS


@pytest_asyncio.fixture
async def member(embedded_kafka: str) -> AsyncIterator[AIOKafkaConsumer]:
    """The only member of its group, with all partitions of one topic."""
    async with AIOKafkaConsumer(REQUESTS.name, bootstrap_servers=embedded_kafka, group_id="toy") as consumer:
        await consumer.getmany(timeout_ms=100)
        yield consumer


class GroupRequests:
    """Counts the DescribeGroups requests on the consumer's connection, and can make them fail."""

    def __init__(self, consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.failure: Exception | None = None
        self._send: Callable[..., Awaitable[Any]] = consumer._client.send
        monkeypatch.setattr(consumer._client, "send", self)

    async def __call__(self, node: Any, request: Any, **options: Any) -> Any:
        if isinstance(request, DescribeGroupsRequest):
            self.count += 1
            if self.failure is not None:
                raise self.failure
        return await self._send(node, request, **options)


CLUSTER = KafkaCluster("127.0.0.1:9")


async def test_a_replica_with_all_partitions_describes_only_the_topics(
    member: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    group_requests = GroupRequests(member, monkeypatch)
    watch = TopicWatch(CLUSTER, (REQUESTS,), "toy", needed=(DEAD_LETTERS,))
    there = await watch.look(member, at_once=True)
    assert there is not None
    assert set(there) == {REQUESTS.name, DEAD_LETTERS.name}
    assert watch.problem() is None
    assert group_requests.count == 0

    partial = TopicWatch(CLUSTER, (REQUESTS, JOBS), "toy")
    await partial.look(member, at_once=True)
    assert group_requests.count == 1, "another member must have the other topic"


async def test_topics_that_are_only_written_cause_no_further_requests(member: AIOKafkaConsumer) -> None:
    watch = TopicWatch(CLUSTER, (REQUESTS,), "toy", needed=(DEAD_LETTERS,))
    await watch.look(member, at_once=True)
    assert watch.problem() is None
    # The consumer's metadata holds the topics that it consumes, and no others.
    await member._client.force_metadata_update()
    assert DEAD_LETTERS.name not in member._client.cluster.topics()
    assert await watch.look(member) is None, "nothing is due"


@pytest.mark.parametrize("failure", [RequestTimedOutError(), KafkaConnectionError(), OSError(), TimeoutError()])
async def test_if_the_group_cannot_be_described_the_topics_count_as_not_consumed_after_a_while(
    member: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    group_requests = GroupRequests(member, monkeypatch)
    group_requests.failure = failure
    watch = TopicWatch(CLUSTER, (REQUESTS, JOBS), "toy")
    there = await watch.look(member, at_once=True)
    assert there is not None
    assert set(there) == {REQUESTS.name, JOBS.name}
    assert watch.problem() is None

    monkeypatch.setattr(topic_watch, "SHARING_LIMIT_S", 0.0)
    assert await watch.look(member, at_once=True) is not None
    for topic in (REQUESTS, JOBS):
        assert f"{topic.name} is not consumed: " in str(watch.problem())

    group_requests.failure = None
    await watch.look(member, at_once=True)
    assert f"{JOBS.name} is not consumed: no replica has partitions" in str(watch.problem())
    assert REQUESTS.name not in str(watch.problem())
