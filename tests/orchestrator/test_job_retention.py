"""The orchestrator purges jobs that ended long ago, and publishes nothing when their requests are replayed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.builders import attempt_event, delivered, job_requested, nobody_silent

import orchestrator
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.postgres.retention import RetentionWorker
from chassis.runtime.runtime import Runtime
from contracts.catalogue import default_catalogue_path, load_catalogue
from contracts.failures import FailureKind
from contracts.ids import JobId, job_id_for
from contracts.messages.attempts import AttemptFailed
from contracts.messages.base import Message
from contracts.messages.requests import CancelRequested, JobRequested
from contracts.providers.registry import PROVIDERS
from orchestrator.handler import JobHandler
from orchestrator.retention import job_tasks
from orchestrator.routing.planning import Routing
from orchestrator.routing.policy import Policies

KEEP = timedelta(days=90)


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "orchestrator", orchestrator)
    async with open_pool(database_url, "orchestrator", max_size=4) as opened:
        yield opened


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("orchestrator", make_telemetry("orchestrator", None))


@pytest.fixture
def handler(pool: Pool, runtime: Runtime) -> JobHandler:
    # Nothing is published: messages stay in the outbox, where these tests read them.
    outbox = Outbox(pool, cast("Any", None), runtime)
    routing = Routing(load_catalogue(default_catalogue_path()), Policies(), "fal", tuple(PROVIDERS))
    return JobHandler(outbox, routing, nobody_silent, KEEP, lambda _: None, runtime.telemetry)


def request(name: str, now: datetime) -> JobRequested:
    return job_requested(job_id_for("default", name), now, providers=("fal",))


async def deliver(handler: JobHandler, message: Message, arrived_at: datetime) -> None:
    await handler([delivered(message, arrived_at)])


async def end(handler: JobHandler, job_id: JobId, now: datetime) -> None:
    failure = {"kind": FailureKind.INVALID_INPUT, "message": "no such field", "accepted": False}
    await deliver(handler, attempt_event(AttemptFailed, job_id, 1, 2, now, **failure), now)


async def published(pool: Pool) -> list[str]:
    """The types of the messages in the outbox, which is emptied."""
    rows = await pool.fetch("DELETE FROM outbox RETURNING id, headers")
    return [row["headers"]["ce_type"] for row in sorted(rows, key=lambda row: row["id"])]


async def purge(pool: Pool, runtime: Runtime) -> int:
    done = await RetentionWorker(pool, runtime, "orchestrator", job_tasks(KEEP)).once()
    assert done is not None
    return done["jobs"]


async def age(pool: Pool, days: int) -> None:
    """Move all jobs into the past, with their deadlines."""
    await pool.execute(
        """
        UPDATE jobs SET updated_at = updated_at - make_interval(days => $1),
            deadline_at = deadline_at - make_interval(days => $1),
            body = jsonb_set(body, '{deadline_at}', to_jsonb(deadline_at - make_interval(days => $1)))
        """,
        days,
    )


async def jobs(pool: Pool) -> set[str]:
    return {row["job_id"] for row in await pool.fetch("SELECT job_id FROM jobs")}


async def test_finished_jobs_are_purged_with_their_attempts_and_others_stay(
    pool: Pool, runtime: Runtime, handler: JobHandler
) -> None:
    now = await pool.fetchval("SELECT now()")
    for name in ("old", "live"):
        await deliver(handler, request(name, now), now)
    await end(handler, job_id_for("default", "old"), now)
    await age(pool, 91)
    await deliver(handler, request("young", now), now)
    await end(handler, job_id_for("default", "young"), now)

    assert await purge(pool, runtime) == 1
    assert await jobs(pool) == {job_id_for("default", name) for name in ("live", "young")}
    rows = await pool.fetch("SELECT job_id FROM attempts")
    assert {row["job_id"] for row in rows} == await jobs(pool)


async def test_a_request_that_is_replayed_after_the_purge_publishes_nothing(
    pool: Pool, runtime: Runtime, handler: JobHandler
) -> None:
    now = await pool.fetchval("SELECT now()")
    job_id = job_id_for("default", "a")
    await deliver(handler, request("a", now), now)
    await end(handler, job_id, now)
    assert await published(pool) == ["segue.job.accepted.v1", "segue.attempt.run.v1", "segue.job.failed.v1"]
    await age(pool, 91)
    assert await purge(pool, runtime) == 1

    then = now - timedelta(days=91)
    with capture_logs() as logged:
        await deliver(handler, request("a", then), then)
    assert [line["job_id"] for line in logged if line["log_level"] == "warning"] == [job_id]
    # Also with the time of the replay as the time of the record.
    await deliver(handler, request("a", then), now)
    await deliver(handler, CancelRequested(job_id=job_id, occurred_at=then, tenant="default"), then)
    await end(handler, job_id, then)
    assert await published(pool) == []
    assert await jobs(pool) == set()


async def test_an_old_request_whose_job_cannot_have_been_purged_expires(pool: Pool, handler: JobHandler) -> None:
    now = await pool.fetchval("SELECT now()")
    then = now - timedelta(days=80)
    await deliver(handler, request("weeks in Kafka", then), then)
    assert await published(pool) == ["segue.job.failed.v1"]


async def test_a_replayed_request_of_a_stored_job_publishes_nothing(pool: Pool, handler: JobHandler) -> None:
    now = await pool.fetchval("SELECT now()")
    await deliver(handler, request("kept", now), now)
    await end(handler, job_id_for("default", "kept"), now)
    await published(pool)
    then = now - timedelta(days=91)
    await deliver(handler, request("kept", then), then)
    assert await published(pool) == []
    assert await jobs(pool) == {job_id_for("default", "kept")}


async def test_a_job_that_is_run_at_a_repeat_has_the_deadline_of_the_repeat(pool: Pool, handler: JobHandler) -> None:
    """Its column too, by which jobs count as overdue and are purged."""
    first: datetime = await pool.fetchval("SELECT now()")
    later = first + timedelta(minutes=10)
    await deliver(handler, request("late", first), first + timedelta(seconds=16))
    await deliver(handler, request("late", later), later)
    row = await pool.fetchrow("SELECT state, deadline_at, body ->> 'deadline_at' AS in_body FROM jobs")
    assert row is not None
    assert row["state"] == "queued"
    assert row["deadline_at"] == datetime.fromisoformat(row["in_body"]) > later
