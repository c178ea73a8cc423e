"""What is shown of jobs: how long they took, what they cost, and how many have not ended, by the tables."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY
from tests.builders import artifact, attempt_event, attempt_outcome, candidate, delivered, job_requested, nobody_silent

import orchestrator
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import Telemetry
from chassis.postgres.polled_gauges import OUTBOX_GAUGES, PolledGauges, due_gauge
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.catalogue import default_catalogue_path, load_catalogue
from contracts.failures import FailureKind
from contracts.ids import JobId, job_id_for, track_id_for
from contracts.messages.attempts import AttemptFailed, AttemptSucceeded
from contracts.messages.base import Message
from contracts.providers.registry import PROVIDERS
from orchestrator.decisions.attempt_outcomes import newly_known_costs
from orchestrator.decisions.job import Job
from orchestrator.handler import JobHandler
from orchestrator.metrics import JOB_SECONDS
from orchestrator.routing.planning import Routing
from orchestrator.routing.policy import Policies
from orchestrator.store import JOB_GAUGES

TRACE = "0123456789abcdef0123456789abcdef"
TRACEPARENT = f"00-{TRACE}-0123456789abcdef-01"
JOB = job_id_for("default", "metrics")
INSERT = """
INSERT INTO jobs (job_id, state, version, next_action_at, body, deadline_at)
VALUES ($1, $2, 1, $3, '{}', now() - make_interval(secs => $4))
"""


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "orchestrator", orchestrator)
    async with open_pool(database_url, "orchestrator", max_size=4) as opened:
        yield opened


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("orchestrator", Telemetry(TracerProvider(), "orchestrator", exporting=True))


@pytest.fixture
def handler(pool: Pool, runtime: Runtime) -> JobHandler:
    routing = Routing(load_catalogue(default_catalogue_path()), Policies(), "fal", tuple(PROVIDERS))
    outbox = Outbox(pool, cast("Any", None), runtime)
    return JobHandler(outbox, routing, nobody_silent, timedelta(days=90), lambda _: None, runtime.telemetry)


async def deliver(handler: JobHandler, message: Message) -> None:
    await handler([delivered(message, datetime.now(UTC), TRACEPARENT)])


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def spent() -> dict[str, float]:
    return {each: value("segue_job_cost_usd_total", provider=each, modality="music") for each in PROVIDERS}


async def test_an_ended_job_is_timed_and_each_attempt_adds_its_cost_once(handler: JobHandler) -> None:
    before, ended = spent(), value("segue_job_seconds_count", status="succeeded")
    seconds = value("segue_job_seconds_sum", status="succeeded")
    now = datetime.now(UTC)
    await deliver(handler, job_requested(JOB, now))
    failed = attempt_event(
        AttemptFailed, JOB, 1, 2, now, kind=FailureKind.PROVIDER_ERROR, message="m", accepted=True, cost_usd=0.25
    )
    made = attempt_event(AttemptSucceeded, JOB, 2, 2, now, provider_ref="r", artifacts=(artifact(),), cost_usd=0.03)
    for message in (failed, made, made):
        await deliver(handler, message)
    after = spent()
    assert {each: round(after[each] - before[each], 6) for each in PROVIDERS} == {"fal": 0.25, "replicate": 0.03}
    assert value("segue_job_seconds_count", status="succeeded") == ended + 1
    assert 0 <= value("segue_job_seconds_sum", status="succeeded") - seconds < 600
    child = JOB_SECONDS.labels("succeeded")
    exemplars = [sample.exemplar for sample in child._samples() if sample.exemplar is not None]
    assert TRACE in {each.labels["trace_id"] for each in exemplars}


def job(*costs: float | None) -> Job:
    """A job whose n-th attempt cost this."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    providers = ("fal", "replicate")
    attempts = tuple(
        # Copied as the handler does, which checks no value again.
        attempt_outcome(JOB, n, provider=providers[(n - 1) % 2]).model_copy(update={"cost_usd": cost})
        for n, cost in enumerate(costs, 1)
    )
    routes = tuple(candidate(provider) for provider in providers)
    return Job(JOB, track_id_for(JOB), "default", "a" * 64, now, now, candidates=routes, attempts=attempts)


@pytest.mark.parametrize(
    ("before", "after", "learned"),
    [
        (None, job(), {}),
        (job(None), job(None), {}),
        (job(None), job(0.2), {"fal": 0.2}),
        (job(0.2), job(0.2, None), {}),
        (job(0.2, None), job(0.2, 0.0), {}),
        (job(0.2, None, None), job(0.2, 0.1, 0.3), {"fal": 0.3, "replicate": 0.1}),
        (job(0.1, 0.1), job(0.2, 0.05), {"fal": 0.1}),
        (job(None, None), job(math.inf, 1e300), {}),
        (job(math.inf, math.nan), job(math.inf, 0.1), {}),
        (job(None, None), job(math.nan, 0.1), {"replicate": 0.1}),
    ],
)
def test_only_what_was_not_known_is_learned(before: Job | None, after: Job, learned: dict[str, float]) -> None:
    assert {name: round(cost, 6) for name, cost in newly_known_costs(before, after).items()} == learned


async def insert(pool: Pool, name: str, state: str, overdue_s: float, due_s: float | None = None) -> None:
    at = None if due_s is None else datetime.now(UTC) + timedelta(seconds=due_s)
    await pool.execute(INSERT, JobId(name), state, at, overdue_s)


async def test_jobs_that_have_not_ended_are_counted_by_state(pool: Pool, runtime: Runtime) -> None:
    gauges = PolledGauges(pool, runtime, OUTBOX_GAUGES, due_gauge("jobs"), JOB_GAUGES)
    await insert(pool, "waits", "queued", -600, 60)
    await insert(pool, "runs", "running", -600, 600)
    await insert(pool, "ends", "running", 20, 600)
    await insert(pool, "stuck", "queued", 40, 600)
    for n, state in enumerate(("succeeded", "failed", "cancelled")):
        await insert(pool, f"ended-{n}", state, 3600)
    await gauges.read()
    assert [value("segue_jobs", state=state) for state in ("queued", "running")] == [2, 2]
    assert value("segue_jobs_overdue") == 1
    assert value("segue_due_oldest_seconds") == 0
    await pool.execute("UPDATE jobs SET next_action_at = now() - interval '50 seconds' WHERE job_id = 'waits'")
    await pool.execute("UPDATE jobs SET state = 'failed', next_action_at = NULL WHERE job_id = 'stuck'")
    await gauges.read()
    assert [value("segue_jobs", state=state) for state in ("queued", "running")] == [1, 2]
    assert value("segue_jobs_overdue") == 0
    assert value("segue_due_oldest_seconds") >= 50
