"""A real PostgreSQL with the sink's schema, empty tables for each test, and messages as the consumer delivers them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord
from tests.builders import artifact, attempt_fields, job_fields, job_requested

import log_sink
from chassis.delivery.consumer import Delivered
from chassis.postgres.pool import Pool, migrate, open_pool
from contracts.envelope import Envelope, decode, encode
from contracts.failures import FailureKind
from contracts.ids import attempt_id_for, job_id_for, track_id_for
from contracts.messages.attempts import (
    AttemptFailed,
    AttemptProgressed,
    AttemptSubmitted,
    AttemptSubmitting,
    AttemptSucceeded,
)
from contracts.messages.base import Message
from contracts.messages.jobs import JobAccepted, JobRerouted, JobStarted, JobSucceeded, PlannedRoute
from contracts.messages.requests import JobRequested
from log_sink.store import Store

BEGIN = datetime(2026, 3, 10, 12, tzinfo=UTC)
EMPTY = """
SELECT 'TRUNCATE ' || string_agg(format('log_sink.%I', tablename), ', ') || ' RESTART IDENTITY'
FROM pg_tables WHERE schemaname = 'log_sink' AND tablename != 'migrations'
"""
SHAPE = """
SELECT (SELECT string_agg(concat(oid, relname, relnatts, relchecks, relhastriggers), ' ' ORDER BY oid) FROM pg_class
        WHERE relnamespace = 'log_sink'::regnamespace)
    || (SELECT coalesce(string_agg(concat(oid, prosrc), ' ' ORDER BY oid), '') FROM pg_proc
        WHERE pronamespace = 'log_sink'::regnamespace)
"""
"""A fingerprint of the schema."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server_url(postgres_url: str) -> str:
    """A PostgreSQL with a database named `sink` that has the sink's schema."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE sink")
    await connection.close()
    await migrate(_database(postgres_url, "sink"), "log_sink", log_sink)
    return postgres_url


@pytest_asyncio.fixture(loop_scope="session")
async def database_url(server_url: str, end_sessions: Any) -> AsyncIterator[str]:
    """A database with the sink's tables, empty and without other connections."""
    url = _database(server_url, "sink")
    connection = await asyncpg.connect(url)
    try:
        before = await connection.fetchval(SHAPE)
        yield url
        await end_sessions(connection)
        if await connection.fetchval(SHAPE) == before:
            await connection.execute(await connection.fetchval(EMPTY))
        else:
            await connection.execute("DROP SCHEMA log_sink CASCADE")
            await migrate(url, "log_sink", log_sink)
    finally:
        await connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "log_sink", max_size=4) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def store(pool: Pool) -> Store:
    return Store(pool)


def _database(url: str, name: str) -> str:
    return url.rpartition("/")[0] + "/" + name


Deliver = Callable[..., Delivered]


@pytest.fixture
def deliver() -> Deliver:
    """Returns a function that makes a delivery of a message; `value` and `ce_id` replace those of its record."""
    offsets = itertools.count()

    def make(
        message: Message,
        *,
        offset: int | None = None,
        partition: int = 0,
        topic: str | None = None,
        value: bytes | None = None,
        ce_id: str | None = None,
        traceparent: str | None = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
    ) -> Delivered:
        sent = encode(message, source="test", traceparent=traceparent)
        headers = tuple((k, ce_id.encode() if ce_id and k == "ce_id" else v) for k, v in sent.headers)
        body = sent.value if value is None else value
        record: Any = ConsumerRecord(
            topic=topic or sent.topic,
            partition=partition,
            offset=next(offsets) if offset is None else offset,
            timestamp=0,
            timestamp_type=0,
            key=sent.key,
            value=body,
            checksum=None,
            serialized_key_size=len(sent.key),
            serialized_value_size=len(body),
            headers=headers,
        )
        found = decode(headers, body)
        assert isinstance(found, Envelope)
        return Delivered(found.message, found.event_id, found.traceparent, record)

    return make


@dataclass(frozen=True)
class Story:
    """The messages of a job that fal refused and Replicate completed."""

    name: str = "demo"
    tenant: str = "acme"

    @property
    def job_id(self) -> Any:
        return job_id_for(self.tenant, self.name)

    @property
    def track_id(self) -> Any:
        return track_id_for(self.job_id)

    def requested(self, **more: Any) -> JobRequested:
        deadline_at = BEGIN + timedelta(minutes=20)
        known = {"tenant": self.tenant, "deadline_at": deadline_at, "metadata": {"scene": "intro"}}
        return job_requested(self.job_id, BEGIN, **known | more)

    def attempt(self, n: int, version: int, at_s: float) -> dict[str, Any]:
        return attempt_fields(self.job_id, n, version, BEGIN + timedelta(seconds=at_s))

    def job(self, version: int, status: str, at_s: float) -> dict[str, Any]:
        return job_fields(self.job_id, version, status, BEGIN + timedelta(seconds=at_s), tenant=self.tenant)

    def messages(self) -> list[Message]:
        first, second = attempt_id_for(self.job_id, 1), attempt_id_for(self.job_id, 2)
        files = (
            artifact("cover.png", content_type="image/png", size_bytes=9, sha256="c" * 64, width=64, height=64),
            artifact(size_bytes=321, sha256="b" * 64, duration_s=20.1),
        )
        refused = {"kind": FailureKind.INSUFFICIENT_BALANCE, "message": "User is locked. Reason: Exhausted balance."}
        ref = {"provider_ref": "r8-1"}
        return [
            self.requested(),
            JobAccepted(
                **self.job(1, "queued", 1),
                plan=(
                    PlannedRoute(provider="fal", model="music/minimax-2", endpoint="fal-ai/minimax-music/v2"),
                    PlannedRoute(provider="replicate", model="music/minimax-2", endpoint="minimax/music-1.5"),
                ),
                deadline_at=BEGIN + timedelta(minutes=15),
            ),
            AttemptSubmitting(**self.attempt(1, 1, 2)),
            AttemptFailed(**self.attempt(1, 2, 3), **refused, error_code="403", http_status=403, accepted=False),
            JobRerouted(
                **self.job(2, "queued", 4),
                from_attempt_id=first,
                from_provider="fal",
                to_attempt_id=second,
                to_provider="replicate",
                **refused,
            ),
            AttemptSubmitting(**self.attempt(2, 1, 5)),
            AttemptProgressed(**self.attempt(2, 2, 6), stage="throttled"),
            AttemptSubmitting(**self.attempt(2, 3, 7)),
            AttemptSubmitted(**self.attempt(2, 4, 8), **ref),
            JobStarted(**self.job(3, "running", 9), attempt_id=second, provider="replicate"),
            AttemptProgressed(**self.attempt(2, 5, 10), **ref, stage="queued", queue_position=3),
            AttemptSucceeded(**self.attempt(2, 6, 11), **ref, artifacts=files, cost_usd=0.03),
            JobSucceeded(
                **self.job(4, "succeeded", 12),
                attempt_id=second,
                provider="replicate",
                model="music/minimax-1.5",
                artifacts=files,
                cost_usd=0.03,
            ),
        ]


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def story_of() -> Callable[[str], Story]:
    """Returns a function that makes the story of another job."""
    return Story
