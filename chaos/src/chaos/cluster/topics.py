"""The topics of the cluster: where their partitions are, and how they are deleted, made anew, and given partitions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.errors import for_code

from chassis.kafka.metadata import TopicState
from chassis.kafka.topics import admin, describe
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import DEAD_LETTERS, PARTITIONS, TOPICS, ServiceName, Topic

WORK: Final = tuple(topic for topic in TOPICS if topic != DEAD_LETTERS)
"""Every topic that has messages for a service."""
GROUPS: Final[tuple[ServiceName, ...]] = ("orchestrator", "fal-adapter", "replicate-adapter", "log-sink")
WITHIN_S: Final = 30.0


async def partitions_of(servers: str, topics: Iterable[Topic]) -> list[TopicPartition]:
    """The partitions that these topics have now."""
    return places_in(await describe(KafkaCluster(servers), topics))


def places_in(states: Mapping[str, TopicState]) -> list[TopicPartition]:
    """The partitions of topics as they were described."""
    return [TopicPartition(name, n) for name, state in states.items() for n in sorted(state.partitions)]


async def delete(servers: str) -> None:
    """Delete every topic that has messages for a service. Raises KafkaError, and TimeoutError if one stays."""
    async with admin(KafkaCluster(servers)) as client:
        answer = await client.delete_topics([topic.name for topic in WORK])
        _check(answer.to_object()["topic_error_codes"])
    async with asyncio.timeout(WITHIN_S):
        while await describe(KafkaCluster(servers), WORK):  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.2)


async def create(servers: str, broker_ids: Sequence[int], replicas: int) -> None:
    """Create what `delete` deletes, with this many replicas of each partition, one after the other on these brokers.

    Raises KafkaError, and TimeoutError if a partition is not known in time.
    """
    placed = {n: [broker_ids[(n + k) % len(broker_ids)] for k in range(replicas)] for n in range(PARTITIONS)}
    topics = [
        NewTopic(topic.name, -1, -1, replica_assignments=placed, topic_configs=topic.config_for(replicas))
        for topic in WORK
    ]
    async with admin(KafkaCluster(servers)) as client:
        _check((await client.create_topics(topics)).to_object()["topic_errors"])
    await _known(servers, PARTITIONS)


async def add_partitions(servers: str, total: int) -> None:
    """Give the same topics as many partitions. Raises KafkaError, and TimeoutError if one is not known in time."""
    async with admin(KafkaCluster(servers)) as client:
        answer = await client.create_partitions({topic.name: NewPartitions(total) for topic in WORK})
        _check(answer.to_object()["topic_errors"])
    await _known(servers, total)


async def _known(servers: str, partitions: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while len(await partitions_of(servers, WORK)) < partitions * len(WORK):  # noqa: ASYNC110 - no notification
            await asyncio.sleep(0.2)


def _check(answers: Iterable[Mapping[str, Any]]) -> None:
    for answer in answers:
        if code := answer["error_code"]:
            raise for_code(code)(answer["topic"])


async def behind(servers: str, last: Mapping[TopicPartition, int]) -> dict[str, int]:
    """The number of records before these end offsets that each group has not committed, for groups with any."""
    found: Counter[str] = Counter()
    async with admin(KafkaCluster(servers)) as client:
        for group in GROUPS:
            committed = await client.list_consumer_group_offsets(group)
            for place, end in last.items():
                if group in next(topic for topic in TOPICS if topic.name == place.topic).groups:
                    done = committed.get(place)
                    found[group] += max(0, end - (done.offset if done else 0))
    return {group: n for group, n in found.items() if n}
