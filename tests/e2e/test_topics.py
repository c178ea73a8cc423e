"""Topics deleted and created again while Segue runs: readiness reports it, reading resumes, no job is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio
from tests.patience import patient

from chassis.kafka.topics import admin, create_topics
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import ATTEMPTS, CALLBACKS, COMMANDS, REQUESTS, SERVICES, ServiceName, Topic

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

NOTICED_WITHIN_S = 30
DELETED = (COMMANDS["fal"], ATTEMPTS, REQUESTS, CALLBACKS)


@pytest_asyncio.fixture
async def own_system(tmp_path: Path) -> AsyncIterator[System]:
    """A system of its own on Apache Kafka."""
    from tests.e2e.conftest import system_on

    async with system_on("apache", tmp_path, {"SEGUE_KAFKA_SESSION_TIMEOUT_S": "30"}) as system:
        yield system


async def unready(system: System, service: ServiceName) -> str | None:
    """The reason that a service gives for not being ready; None if it is ready."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{system.parts[service].address}/readyz", timeout=patient(10))
    return None if answer.is_success else str(answer.json()["reason"])


async def delete(system: System, topic: Topic) -> None:
    async with asyncio.timeout(patient(30)), admin(KafkaCluster(system.kafka)) as client:
        await client.delete_topics([topic.name])
        while topic.name in await client.list_topics():  # noqa: ASYNC110 - the broker sends no notification
            await asyncio.sleep(0.05)


async def create(system: System, topic: Topic) -> None:
    assert await create_topics(KafkaCluster(system.kafka), [topic], replication=1) == {topic.name: "created"}


def readers(topic: Topic) -> list[ServiceName]:
    return [service for service in SERVICES if service in (*topic.groups, *topic.tails)]


async def test_readers_of_a_deleted_topic_are_not_ready_until_it_is_created_again(
    own_system: System,
) -> None:
    system = own_system
    await system.ended(await system.submit("before anything"))
    pids = {service: system.parts[service].process.pid for service in SERVICES}
    for topic in DELETED:
        await delete(system, topic)
        for service in readers(topic):

            async def reported(service: ServiceName = service, topic: Topic = topic) -> bool:
                return f"{topic.name} is missing" in str(await unready(system, service))

            await system.until(f"{service} reports that {topic.name} is missing", reported, NOTICED_WITHIN_S)
        if topic is REQUESTS:
            asked_at = time.monotonic()
            body = {"prompt": "while it is missing", "duration_s": 2, "has_vocals": False, "style_strength": 0.5}
            answer = await system.api.post("/api/tracks", json=body, headers={"Idempotency-Key": "missing"})
            assert (answer.status_code, time.monotonic() - asked_at < patient(5)) == (503, True)
        await create(system, topic)
        for service in readers(topic):

            async def ready(service: ServiceName = service) -> bool:
                return await unready(system, service) is None

            await system.until(f"{service} is ready again", ready, NOTICED_WITHIN_S)
        job = await system.ended(await system.submit(f"after {topic.name}", providers=["fal"]))
        assert job["status"] == "succeeded"
    job = await system.ended(await system.submit("while it is missing", key="missing"))
    assert job["status"] == "succeeded"
    await system.until_ready()
    assert {service: system.parts[service].process.pid for service in SERVICES} == pids
    assert not await system.dead_letters()


async def test_a_topic_that_is_created_again_at_once_is_read_within_half_a_minute(own_system: System) -> None:
    system = own_system
    await system.ended(await system.submit("before"))
    for topic in (COMMANDS["fal"], ATTEMPTS):
        await delete(system, topic)
        await create(system, topic)
        began = time.monotonic()
        job = await system.ended(await system.submit(f"right after {topic.name}", providers=["fal"]))
        assert job["status"] == "succeeded"
        assert time.monotonic() - began < NOTICED_WITHIN_S
    await system.until_ready()
