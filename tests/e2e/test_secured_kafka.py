"""All of Segue on a cluster that denies by default, each service with a login of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tests.kafka.secured import Secured, password_of, secured_kafka

from chassis.kafka.topics import create_topics
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.access import grants
from contracts.topics import SERVICES, TOPICS, TopicNames

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

NAMES = TopicNames("staging.", partitions=3)


@pytest_asyncio.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[Secured]:
    """The broker, with what each service needs under a prefix, and with the topics of a Segue without one."""
    folder = tmp_path / "kafka"
    folder.mkdir()
    async with secured_kafka(folder) as broker:
        await create_topics(KafkaCluster(broker.plain), TOPICS, replication=1)
        for service, granted in grants(NAMES).items():
            await broker.add_user(f"segue-{service}")
            await broker.grant(f"segue-{service}", granted)
        yield broker


@pytest_asyncio.fixture
async def system(kafka: Secured, tmp_path: Path) -> AsyncIterator[System]:
    """All of Segue, every service with the login of its own and with nothing but what the map grants."""
    from tests.e2e.conftest import system_on

    names = {"SEGUE_TOPIC_PREFIX": NAMES.prefix, "SEGUE_TOPIC_PARTITIONS": str(NAMES.partitions)}
    async with system_on("apache", tmp_path, {**names, "KAFKA_BOOTSTRAP_SERVERS": kafka.plain}) as system:
        await system.kill(*SERVICES)
        for service in SERVICES:
            await system.start(service, **kafka.login(f"segue-{service}"))
        yield system


async def test_a_job_fails_over_with_what_the_map_grants_each_service(system: System, kafka: Secured) -> None:
    prompt = "fails over on a secured cluster"
    await system.fault(prompt, {"fail": "internal_500"}, provider="fal")
    job = await system.ended(await system.submit(prompt))
    assert job["status"] == "succeeded", job
    assert [attempt["provider"] for attempt in job["attempts"]] == ["fal", "replicate"]
    await system.until_idle()
    assert await system.dead_letters() == []
    for topic in TOPICS:
        assert sum(await system.end_offsets(topic.name)) == 0, "a Segue without the prefix sees nothing of it"
    for service, log in system.logs().items():
        assert password_of(f"segue-{service}") not in log
        assert "Traceback" not in log, service
        if service in SERVICES:
            assert f"User:segue-{service}" in log
