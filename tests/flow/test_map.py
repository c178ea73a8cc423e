"""The topic map is correct: each service reads exactly the topics that name it, and publishes what they carry."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import adapter_kit.service
import fal_adapter.app
import gateway.app
import log_sink.app
import orchestrator.app
import replicate_adapter.app
from chassis.delivery.consumer import BatchConsumer
from chassis.delivery.tail import Tail
from chassis.observability.telemetry import make_telemetry
from chassis.runtime.runtime import Runtime
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import ADAPTERS, MESSAGE_TYPES, SERVICES, TOPICS, ServiceName, Topic
from fal_adapter.settings import FalSettings
from gateway.settings import GatewaySettings
from log_sink.settings import SinkSettings
from orchestrator.settings import OrchestratorSettings
from replicate_adapter.settings import ReplicateSettings

MESSAGES = {kind.__name__ for kind in MESSAGE_TYPES.values()}
PACKAGES: dict[ServiceName, tuple[ModuleType, ...]] = {
    "gateway": (gateway,),
    "orchestrator": (orchestrator,),
    "fal-adapter": (adapter_kit, fal_adapter),
    "replicate-adapter": (adapter_kit, replicate_adapter),
    "log-sink": (log_sink,),
}


def names(topics: Iterable[Topic]) -> set[str]:
    return {topic.name for topic in topics}


def calls(package: ModuleType) -> Iterator[ast.Call]:
    """Every call in a package's source."""
    for folder in package.__path__:
        for file in Path(folder).rglob("*.py"):
            yield from (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))


def made_by(service: ServiceName) -> set[str]:
    """The messages that a service makes: the classes that its source calls, or passes to a function that calls them."""
    made: set[str] = set()
    for call in (call for package in PACKAGES[service] for call in calls(package)):
        if isinstance(call.func, ast.Name) and call.func.id == "isinstance":
            continue
        made |= {node.id for node in (call.func, *call.args) if isinstance(node, ast.Name)} & MESSAGES
    return made


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_publishes_exactly_what_its_topics_carry(service: ServiceName) -> None:
    assert made_by(service) == {
        kind.__name__ for topic in TOPICS if service in topic.producers for kind in topic.carries
    }


class Wired(Exception):
    """Stops the service once its topics are known."""


@dataclass
class Readers:
    """The topics that a service reads."""

    group: set[str] = field(default_factory=set)
    group_id: str | None = None
    tail: set[str] = field(default_factory=set)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> Readers:
    """Filled when a service starts, which then fails with `Wired`."""
    found = Readers()

    class Consumer(BatchConsumer):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            found.group = set(self.subscriber.topic_names)
            found.group_id = self.subscriber.group_id
            raise Wired

    class FollowedTail(Tail):
        def __init__(self, cluster: KafkaCluster, topics: Sequence[Topic], *args: Any, **options: Any) -> None:
            super().__init__(cluster, topics, *args, **options)
            found.tail = names(topics)
            raise Wired

    for module in (orchestrator.app, adapter_kit.service, log_sink.app):
        monkeypatch.setattr(module, "BatchConsumer", Consumer)
    monkeypatch.setattr(gateway.app, "Tail", FollowedTail)
    return found


def app_of(service: ServiceName, servers: str, database_url: str, store: Path) -> AbstractAsyncContextManager[None]:
    """The service's own app, as its `__main__` runs it."""
    runtime = Runtime(service, make_telemetry(service, None))
    both: dict[str, Any] = {"_env_file": None, "kafka_bootstrap_servers": servers, "database_url": database_url}
    kept: dict[str, Any] = {"artifact_store_url": store.as_uri()}
    match service:
        case "gateway":
            return gateway.app.gateway_app(GatewaySettings(**both, **kept), runtime)
        case "orchestrator":
            return orchestrator.app.app(OrchestratorSettings(**both), runtime)
        case "fal-adapter":
            return fal_adapter.app.app(FalSettings(**both, **kept, fal_key="id:secret"), runtime)
        case "replicate-adapter":
            settings = ReplicateSettings(**both, **kept, replicate_api_token="r8_secret")
            return replicate_adapter.app.app(settings, runtime)
        case "log-sink":
            return log_sink.app.app(SinkSettings(**both), runtime)
        case _:
            raise AssertionError(f"how to start {service} is not known here")


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_reads_the_topics_that_name_it_in_a_group_of_its_name(
    service: ServiceName, readers: Readers, embedded_kafka: str, database_url: str, tmp_path: Path
) -> None:
    running = app_of(service, embedded_kafka, database_url, tmp_path)
    with pytest.raises(Wired):
        await running.__aenter__()
    assert readers.group == names(topic for topic in TOPICS if service in topic.groups)
    assert readers.tail == names(topic for topic in TOPICS if service in topic.tails)
    if readers.group:
        assert readers.group_id == service


def test_each_adapter_is_a_service() -> None:
    assert set(ADAPTERS) <= set(SERVICES) == set(PACKAGES)
