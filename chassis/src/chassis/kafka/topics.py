"""The topics of the cluster: checked at start, created if missing; and the admin client for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import anyio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)

from chassis.errors import CannotStart
from chassis.runtime.retry import retry
from chassis.settings.kafka_servers import diagnose_servers
from contracts.topics import PARTITIONS, Topic

START_LIMIT_S = 30.0
PAUSE_S = 0.2
"""Pause between two attempts, in seconds: another broker may answer the next one."""


async def require_topics(bootstrap_servers: str, topics: Iterable[Topic]) -> None:
    """Raises CannotStart, naming the setting, unless a broker answers within 30 s and has every topic."""
    try:
        with anyio.fail_after(START_LIMIT_S):
            there = await retry(lambda: _topics_there(bootstrap_servers), KafkaError, pause_s=PAUSE_S)
    except (TimeoutError, OSError) as error:
        why = await diagnose_servers(bootstrap_servers.split(","))
        raise CannotStart(
            f"KAFKA_BOOTSTRAP_SERVERS: no broker answered at {bootstrap_servers} within {START_LIMIT_S:.0f} s ({why})"
        ) from error
    if missing := {topic.name for topic in topics} - there:
        lacking = ", ".join(sorted(missing))
        raise CannotStart(f"KAFKA_BOOTSTRAP_SERVERS: the cluster lacks {lacking}; run: segue topics")


async def _topics_there(bootstrap_servers: str) -> set[str]:
    async with admin(bootstrap_servers) as client:
        return set(await client.list_topics())


@asynccontextmanager
async def admin(bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client; waits until a broker answers. The caller sets the time limit."""
    client = await retry(lambda: _started(bootstrap_servers), KafkaError, pause_s=PAUSE_S)
    try:
        yield client
    finally:
        await client.close()


async def _started(bootstrap_servers: str) -> AIOKafkaAdminClient:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=5_000)
    try:
        await client.start()
    except BaseException:
        await client.close()
        raise
    return client


async def create_topics(bootstrap_servers: str, topics: Iterable[Topic], replication: int) -> dict[str, str]:
    """Create missing topics; returns "created", "exists", or the name of the cluster's error, by topic."""
    async with admin(bootstrap_servers) as client:
        there = set(await client.list_topics())
        outcome = {topic.name: "exists" for topic in topics if topic.name in there}
        missing = [
            NewTopic(topic.name, PARTITIONS, replication, topic_configs=topic.config_for(replication))
            for topic in topics
            if topic.name not in there
        ]
        if not missing:
            return outcome
        response = await client.create_topics(missing)
    for answer in response.to_object()["topic_errors"]:
        error = for_code(answer["error_code"])
        taken = {NoError: "created", TopicAlreadyExistsError: "exists"}
        outcome[answer["topic"]] = taken.get(error, error.__name__)
    return outcome
