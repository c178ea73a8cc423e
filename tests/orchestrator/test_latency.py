"""The orchestrator measures the latency of each route from the events of attempts, and orders routes by it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import pytest_asyncio
from tests.builders import artifact, attempt_event, delivered, job_requested, nobody_silent

import orchestrator
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.catalogue import default_catalogue_path, load_catalogue
from contracts.generation import Provider
from contracts.ids import job_id_for
from contracts.messages.attempts import AttemptEvent, AttemptSubmitted, AttemptSucceeded
from contracts.messages.base import Message
from contracts.messages.requests import JobRequested
from contracts.messages.routing import RouteBy
from contracts.providers.registry import PROVIDERS
from orchestrator.handler import JobHandler
from orchestrator.latency import WINDOW
from orchestrator.routing.ordering import Latency
from orchestrator.routing.planning import Routing
from orchestrator.routing.policy import Policies

ARTIFACT = artifact()
ENDPOINTS: dict[Provider, str] = {
    "fal": "fal-ai/stable-audio-25/text-to-audio",
    "replicate": "stability-ai/stable-audio-2.5",
}


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "orchestrator", orchestrator)
    async with open_pool(database_url, "orchestrator", max_size=4) as opened:
        yield opened


@pytest.fixture
def handler(pool: Pool) -> JobHandler:
    # Nothing is published: messages stay in the outbox, where these tests read them.
    runtime = Runtime("orchestrator", make_telemetry("orchestrator", None))
    routing = Routing(load_catalogue(default_catalogue_path()), Policies(), "fal", tuple(PROVIDERS))
    return JobHandler(
        Outbox(pool, cast("Any", None), runtime),
        routing,
        nobody_silent,
        timedelta(days=90),
        lambda _: None,
        runtime.telemetry,
    )


async def deliver(handler: JobHandler, *messages: Message) -> None:
    now = datetime.now(UTC)
    await handler([delivered(each, now) for each in messages])


def request(name: str, provider: Provider | None = None, route_by: RouteBy | None = None) -> JobRequested:
    job_id, now = job_id_for("default", name), datetime.now(UTC)
    return job_requested(job_id, now, providers=None if provider is None else (provider,), route_by=route_by)


def event_of(event: type[AttemptEvent], name: str, provider: Provider, at_s: float, **more: object) -> AttemptEvent:
    job_id = job_id_for("default", name)
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=at_s)
    route = {"provider": provider, "model": "music/stable-audio-2.5", "endpoint": ENDPOINTS[provider]}
    made = {"artifacts": (ARTIFACT,)} if event is AttemptSucceeded else {}
    return attempt_event(event, job_id, 1, 2 if event is AttemptSubmitted else 3, at, **route, **made, **more)


async def run(handler: JobHandler, name: str, provider: Provider, seconds: float) -> None:
    """Handle one job from its request to its end, one message per batch."""
    await deliver(handler, request(name, provider))
    await deliver(handler, event_of(AttemptSubmitted, name, provider, 0))
    await deliver(handler, event_of(AttemptSucceeded, name, provider, seconds))


async def stored_paces(pool: Pool) -> dict[Provider, Latency]:
    rows = await pool.fetch("SELECT * FROM paces")
    assert all(ENDPOINTS[row["provider"]] == row["endpoint"] for row in rows)
    return {row["provider"]: Latency(round(row["mean_s"], 6), row["runs"]) for row in rows}


async def reason(pool: Pool, name: str) -> str:
    rows = await pool.fetch("SELECT value, headers FROM outbox")
    job_id = job_id_for("default", name)
    bodies = [json.loads(row["value"]) for row in rows if row["headers"]["ce_type"] == "segue.job.accepted.v1"]
    [text] = [body["because"] for body in bodies if body["job_id"] == job_id]
    return str(text)


async def test_jobs_go_to_the_faster_route(pool: Pool, handler: JobHandler) -> None:
    await deliver(handler, request("unknown", route_by="fastest"))
    assert await reason(pool, "unknown") == (
        "fastest first, but none of these was timed yet: the listed order, as the request asks"
    )
    await run(handler, "slow", "fal", 30)
    await run(handler, "quick", "replicate", 12)
    await deliver(handler, request("steered", route_by="fastest"))
    assert await reason(pool, "steered") == (
        "fastest first: replicate 12 s over 1 run, fal 30 s over 1, as the request asks"
    )


async def test_the_first_runs_have_equal_weight(pool: Pool, handler: JobHandler) -> None:
    for n, seconds in enumerate((10, 20, 60)):
        await run(handler, f"job-{n}", "fal", seconds)
    assert await stored_paces(pool) == {"fal": Latency(30, 3)}


async def test_a_later_run_counts_with_a_fixed_share(pool: Pool, handler: JobHandler) -> None:
    await pool.execute("INSERT INTO paces VALUES ('fal', $1, 10, 100000)", ENDPOINTS["fal"])
    await run(handler, "job", "fal", 30)
    assert await stored_paces(pool) == {"fal": Latency(10 + 20 / WINDOW, 100_001)}


async def test_runs_in_one_batch_count_as_one_after_the_other(pool: Pool, handler: JobHandler) -> None:
    await pool.execute("INSERT INTO paces VALUES ('fal', $1, 10, 100000)", ENDPOINTS["fal"])
    names = [f"job-{n}" for n in range(30)]
    await deliver(handler, *(request(name, "fal") for name in names))
    await deliver(handler, *(event_of(AttemptSubmitted, name, "fal", 0) for name in names))
    await deliver(handler, *(event_of(AttemptSucceeded, name, "fal", 30) for name in names))
    assert await stored_paces(pool) == {"fal": Latency(round(30 - 20 * (1 - 1 / WINDOW) ** 30, 6), 100_030)}


async def test_a_run_that_begins_and_ends_in_one_batch_is_measured(pool: Pool, handler: JobHandler) -> None:
    await deliver(handler, request("job", "fal"))
    await deliver(handler, event_of(AttemptSubmitted, "job", "fal", 5), event_of(AttemptSucceeded, "job", "fal", 9))
    assert await stored_paces(pool) == {"fal": Latency(4, 1)}


async def test_repeated_events_count_once(pool: Pool, handler: JobHandler) -> None:
    story: Sequence[Message] = [
        request("job", "fal"),
        event_of(AttemptSubmitted, "job", "fal", 0),
        event_of(AttemptSucceeded, "job", "fal", 8),
    ]
    for _ in range(2):
        for message in story:
            await deliver(handler, message, message)
    assert await stored_paces(pool) == {"fal": Latency(8, 1)}


@pytest.mark.parametrize(
    "events",
    [
        [event_of(AttemptSucceeded, "job", "fal", 8)],
        [event_of(AttemptSubmitted, "job", "fal", 0), event_of(AttemptSucceeded, "job", "fal", 8, late=True)],
        [event_of(AttemptSubmitted, "another", "fal", 0), event_of(AttemptSucceeded, "another", "fal", 8)],
    ],
    ids=["begin not seen", "late event", "unknown job"],
)
async def test_events_without_a_usable_duration_are_not_counted(
    pool: Pool, handler: JobHandler, events: list[AttemptEvent]
) -> None:
    await deliver(handler, request("job", "fal"), *events)
    assert await stored_paces(pool) == {}


async def test_a_negative_duration_counts_as_zero(pool: Pool, handler: JobHandler) -> None:
    await run(handler, "job", "fal", -3)
    assert await stored_paces(pool) == {"fal": Latency(0, 1)}
