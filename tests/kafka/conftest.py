"""The topics of the topic map on a real broker, empty for each test."""

from __future__ import annotations

from typing import Protocol

import pytest_asyncio
from tests.patience import eventually

from chassis.kafka.topics import admin, create_topics
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import TOPICS


class Broker(Protocol):
    """The type of the fixture `real_kafka`."""

    bootstrap_servers: str
    pid: int


@pytest_asyncio.fixture
async def servers(real_kafka: Broker) -> str:
    """The address of the broker; its topics are empty, and its groups have no offsets in them."""
    async with admin(KafkaCluster(real_kafka.bootstrap_servers)) as client:
        there = set(await client.list_topics()) & {topic.name for topic in TOPICS}
        await client.delete_topics(list(there))

        async def gone() -> bool:
            return not set(await client.list_topics()) & there

        async def back() -> bool:
            return {topic.name for topic in TOPICS} <= set(await client.list_topics())

        await eventually(gone, every_s=0.05)
        created = await create_topics(KafkaCluster(real_kafka.bootstrap_servers), TOPICS, replication=1)
        assert set(created.values()) == {"created"}
        await eventually(back, every_s=0.05)
    return real_kafka.bootstrap_servers
