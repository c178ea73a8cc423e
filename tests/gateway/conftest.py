"""A gateway on the embedded Kafka and PostgreSQL, with the read model of the log sink."""

from __future__ import annotations

import asyncio
import itertools
import pkgutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.builders import artifact, attempt_fields, job_fields
from tests.patience import eventually, patient

import gateway
import log_sink
from chassis.delivery.consumer import Delivered
from chassis.kafka.broker import publish
from chassis.observability.telemetry import Telemetry
from chassis.postgres.pool import migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.envelope import Envelope, decode, encode
from contracts.failures import FailureKind
from contracts.ids import AttemptId, JobId, attempt_id_for, job_id_for
from contracts.messages.attempts import Artifact, AttemptFailed, AttemptSubmitted, AttemptSucceeded
from contracts.messages.base import Message
from contracts.messages.jobs import JobAccepted, JobFailed, JobRerouted, JobStarted, JobSucceeded, PlannedRoute
from contracts.messages.requests import CancelRequested
from contracts.topics import PARTITIONS, TOPICS
from gateway.app import api, wired
from gateway.context import TENANT, Gateway
from gateway.queries.single_flight import AT_MOST_OLD_S
from gateway.queries.tail import MAX_BYTES
from gateway.settings import GatewaySettings
from log_sink.store import Store
from segue_cli.local.kafka import kafka

TRACE_ID = "0123456789abcdef0123456789abcdef"
TRACEPARENT = f"00-{TRACE_ID}-0123456789abcdef-01"
SEED = {"prompt": "Warm ambient pad", "duration_s": 20, "has_vocals": False, "style_strength": 0.5}
TOPIC_SIZES = {topic.name: PARTITIONS for topic in TOPICS}


@dataclass(frozen=True)
class Story:
    """The messages of a job that fal refused and Replicate completed."""

    job_id: JobId
    begin: datetime

    def job(self, version: int, status: str) -> dict[str, Any]:
        at = self.begin + timedelta(milliseconds=100 * version)
        return job_fields(self.job_id, version, status, at)

    def attempt(self, n: int) -> AttemptId:
        return attempt_id_for(self.job_id, n)

    @property
    def artifact(self) -> Artifact:
        return artifact(size_bytes=10, sha256="b" * 64, duration_s=20.1)

    def accepted(self) -> JobAccepted:
        plan = (
            PlannedRoute(provider="fal", model="music/minimax-2", endpoint="fal-ai/minimax-music/v2"),
            PlannedRoute(provider="replicate", model="music/minimax-2", endpoint="minimax/music-1.5"),
        )
        return JobAccepted(**self.job(1, "queued"), plan=plan, deadline_at=self.begin + timedelta(minutes=30))

    def rerouted(self) -> JobRerouted:
        return JobRerouted(
            **self.job(2, "queued"),
            from_attempt_id=self.attempt(1),
            from_provider="fal",
            to_attempt_id=self.attempt(2),
            to_provider="replicate",
            kind=FailureKind.INSUFFICIENT_BALANCE,
            message="User is locked.",
        )

    def started(self) -> JobStarted:
        return JobStarted(**self.job(3, "running"), attempt_id=self.attempt(2), provider="replicate")

    def succeeded(self) -> JobSucceeded:
        return JobSucceeded(
            **self.job(4, "succeeded"),
            attempt_id=self.attempt(2),
            provider="replicate",
            model="music/minimax-2",
            artifacts=(self.artifact,),
            cost_usd=0.03,
        )

    def failed(self) -> JobFailed:
        return JobFailed(**self.job(4, "failed"), kind=FailureKind.NO_ROUTE, message="nobody could make it")

    def jobs(self) -> list[Message]:
        return [self.accepted(), self.rerouted(), self.started(), self.succeeded()]

    def attempts(self) -> list[Message]:
        def about(n: int, version: int) -> dict[str, Any]:
            at = self.begin + timedelta(milliseconds=150 * n + version)
            return attempt_fields(self.job_id, n, version, at)

        return [
            AttemptFailed(
                **about(1, 2),
                kind=FailureKind.INSUFFICIENT_BALANCE,
                error_code="403",
                message="User is locked.",
                http_status=403,
                accepted=False,
            ),
            AttemptSubmitted(**about(2, 2), provider_ref="r8-1"),
            AttemptSucceeded(**about(2, 3), provider_ref="r8-1", artifacts=(self.artifact,), cost_usd=0.03),
        ]


StoryOf = Callable[[str], Story]


@pytest.fixture
def story_of() -> StoryOf:
    return lambda job_id: Story(JobId(job_id), datetime.now(UTC))


@pytest.fixture
def story() -> Story:
    return Story(job_id_for(TENANT, "a story"), datetime(2026, 3, 10, 12, tzinfo=UTC))


@dataclass(frozen=True)
class World:
    """A running gateway with an HTTP client, its database and the spans that it has recorded."""

    parts: Gateway
    client: httpx.AsyncClient
    spans: InMemorySpanExporter
    database_url: str
    _offsets: Iterator[int]

    async def publish(self, *messages: Message) -> None:
        """Publish messages in order, as the orchestrator does."""
        for message in messages:
            record = encode(message, source="orchestrator", traceparent=TRACEPARENT)
            await (await publish(self.parts.publisher.broker, record))

    async def store(self, *messages: Message) -> None:
        """Store messages as the log sink does after it has consumed them."""
        async with open_pool(self.database_url, "log_sink", max_size=2) as pool:
            await Store(pool).store([_delivered(message, next(self._offsets)) for message in messages])

    def empty_tail(self) -> None:
        """Make the tail drop all jobs, as it does when one message exceeds the bytes that it may keep."""
        message = CancelRequested(job_id=job_id_for(TENANT, "oversized"), occurred_at=datetime.now(UTC), tenant=TENANT)
        self.parts.tail.take(Envelope(message, str(message.event_id), "", None, MAX_BYTES + 1), None)

    async def outdate_reads(self) -> None:
        """Wait until the results of shared reads are too old to be used again."""
        await asyncio.sleep(AT_MOST_OLD_S)

    async def post(self, body: Any = None, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post("/api/tracks", json=SEED if body is None else body, headers=sent)


@pytest.fixture(scope="session", autouse=True)
def scaled_limits() -> Iterator[None]:
    """Scale the time limits of the gateway: a slow machine may need three seconds for a read."""
    modules = [import_module(found.name) for found in pkgutil.walk_packages(gateway.__path__, "gateway.")]
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            for name, value in list(vars(module).items()):
                if name.endswith("_LIMIT_S") and isinstance(value, float):
                    patch.setattr(module, name, patient(value))
        yield


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@asynccontextmanager
async def world_on(
    kafka_servers: str, database_url: str, store: Path, *, wall: Callable[[], float] = time.time, **more: Any
) -> AsyncIterator[World]:
    settings = GatewaySettings(
        KAFKA_BOOTSTRAP_SERVERS=kafka_servers,
        DATABASE_URL=database_url,
        ARTIFACT_STORE_URL=store.as_uri(),
        _env_file=None,
        **more,
    )
    await migrate(database_url, "log_sink", log_sink)
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    runtime = Runtime("gateway", Telemetry(provider, "gateway", exporting=True))
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(wired(settings, runtime, wall))
        transport = httpx.ASGITransport(app=api(parts))
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://gateway"))
        runtime.started = True
        yield World(parts, client, spans, database_url, itertools.count())
        runtime.stopping.set()
    provider.shutdown()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(store_folder: Path, postgres_url: str) -> AsyncIterator[World]:
    """One gateway for all tests that do not stop its Kafka or its database."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE gateway")
    await connection.close()
    database_url = postgres_url.rpartition("/")[0] + "/gateway"
    async with (
        kafka(TOPIC_SIZES) as cluster,
        world_on(cluster.bootstrap_servers, database_url, store_folder) as made,
    ):
        yield made


Until = Callable[..., Awaitable[Any]]


@pytest.fixture(name="until")
def until_fixture() -> Until:
    return eventually


WorldOn = Callable[..., Any]


@pytest.fixture(name="world_on", scope="session")
def world_on_fixture() -> WorldOn:
    return world_on


@pytest.fixture(scope="session")
def topic_sizes() -> dict[str, int]:
    return TOPIC_SIZES


def _delivered(message: Message, offset: int) -> Delivered:
    sent = encode(message, source="test", traceparent=TRACEPARENT)
    record: Any = ConsumerRecord(
        topic=sent.topic,
        partition=0,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=sent.key,
        value=sent.value,
        checksum=None,
        serialized_key_size=len(sent.key),
        serialized_value_size=len(sent.value),
        headers=sent.headers,
    )
    found = decode(sent.headers, sent.value)
    assert isinstance(found, Envelope)
    return Delivered(found.message, found.event_id, found.traceparent, record)
