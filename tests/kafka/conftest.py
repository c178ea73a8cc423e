"""The map's topics on a real broker, empty for each test."""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest_asyncio
from tests.patience import patient

from chassis.broker import admin, create_topics
from contracts.topics import TOPICS


class Broker(Protocol):
    """What the fixture `real_kafka` yields."""

    bootstrap_servers: str
    pid: int


@pytest_asyncio.fixture
async def servers(real_kafka: Broker) -> str:
    """The broker's address; its topics hold nothing, its groups nothing that matters."""
    async with asyncio.timeout(patient(60)), admin(real_kafka.bootstrap_servers) as client:
        there = set(await client.list_topics()) & {topic.name for topic in TOPICS}
        await client.delete_topics(list(there))
        while set(await client.list_topics()) & there:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)
        created = await create_topics(real_kafka.bootstrap_servers, TOPICS, replication=1)
        assert set(created.values()) == {"created"}
        while not {topic.name for topic in TOPICS} <= set(await client.list_topics()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return real_kafka.bootstrap_servers
