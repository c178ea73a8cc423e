"""A job's attempts, the list of attempts and the log agree on an attempt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.builders import artifact, attempt_fields, attempt_outcome

from contracts.failures import FailureKind
from contracts.ids import job_id_for
from contracts.messages.attempts import AttemptCancelled, AttemptFailed, AttemptSubmitted, AttemptSucceeded
from contracts.messages.base import Message
from contracts.messages.jobs import JobFailed
from contracts.messages.requests import CancelRequested
from gateway.context import TENANT
from gateway.views.attempt_schemas import OperatorsAttempt
from gateway.views.schemas import AttemptAnswer

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHARED = sorted(AttemptAnswer.model_fields.keys() & OperatorsAttempt.model_fields.keys())
FILE = artifact()


def about(story: Any, version: int) -> dict[str, Any]:
    return attempt_fields(story.job_id, 1, version, story.begin + timedelta(milliseconds=200 + version))


def refused(story: Any, **how: Any) -> list[Message]:
    failed = {"kind": FailureKind.RATE_LIMITED, "message": "too many", "accepted": False, "http_status": 429}
    return [AttemptFailed(**about(story, 1), **(failed | how))]


def lost(story: Any) -> list[Message]:
    return refused(story, kind=FailureKind.OUTPUT_LOST, accepted=True, cost_usd=0.2, http_status=410, provider_ref="r")


def unclear(story: Any) -> list[Message]:
    return refused(story, kind=FailureKind.AMBIGUOUS_SUBMISSION, http_status=None)


def succeeded_late(story: Any) -> list[Message]:
    late = AttemptSucceeded(**about(story, 2), provider_ref="r", artifacts=(FILE,), cost_usd=0.2, late=True)
    return [*unclear(story), late]


def stopped(story: Any) -> list[Message]:
    return [AttemptCancelled(**about(story, 1), provider_ref="r", may_have_cost=False)]


def running(story: Any) -> list[Message]:
    return [AttemptSubmitted(**about(story, 1), provider_ref="r")]


def succeeded(story: Any) -> list[Message]:
    return [AttemptSucceeded(**about(story, 1), provider_ref="r", artifacts=(FILE,), cost_usd=0.2)]


def with_a_code(story: Any) -> list[Message]:
    return refused(story, error_code="E1001")


Case = Callable[[Any], list[Message]]
CASES = [refused, with_a_code, lost, unclear, succeeded_late, stopped, running, succeeded]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_an_attempt_is_the_same_in_its_job_and_in_the_list(world: Any, story_of: Any, case: Case) -> None:
    story = story_of(job_id_for(TENANT, f"agreed: {case.__name__}"))
    await world.store(story.accepted(), *case(story), story.failed())
    [in_job] = (await world.client.get(f"/api/jobs/{story.job_id}")).json()["attempts"]
    alone = (await world.client.get(f"/api/attempts/{story.attempt(1)}")).json()
    listed = (await world.client.get("/api/attempts?limit=100")).json()["attempts"]
    assert {name: in_job[name] for name in SHARED} == {name: alone[name] for name in SHARED}
    assert alone in listed
    assert {"error_kind", "error_code", "http_status", "message", "cost_usd", "late", "state"} <= set(SHARED)


@pytest.mark.parametrize("case", [refused, with_a_code, lost, unclear], ids=lambda case: case.__name__)
async def test_the_log_has_the_failure_of_the_attempt(world: Any, story_of: Any, case: Case) -> None:
    story = story_of(job_id_for(TENANT, f"logged: {case.__name__}"))
    await world.store(story.accepted(), *case(story), story.failed())
    attempt = (await world.client.get(f"/api/attempts/{story.attempt(1)}")).json()
    log = (await world.client.get(f"/api/jobs/{story.job_id}/logs")).json()["entries"]
    [line] = [entry for entry in log if entry["event"] == "attempt.failed"]
    same = ("provider", "attempt", "error_kind", "error_code", "http_status")
    assert {name: line[name] for name in same} == {name: attempt[name] for name in same}
    assert attempt["error_code"] == ("E1001" if case is with_a_code else attempt["error_kind"])
    assert attempt["message"] in line["message"]
    assert ("It cost nothing" in line["message"] or "it cost nothing" in line["message"]) == (attempt["cost_usd"] == 0)
    error = (await world.client.get(f"/api/jobs/{story.job_id}")).json()["error"]
    assert error["attempts"][0]["error_code"] == attempt["error_code"]


async def test_the_tail_alone_shows_a_refusal_as_the_tables_do(world: Any, story_of: Any, until: Any) -> None:
    posted = (await world.post()).json()
    story = story_of(posted["job_id"])
    failure = {"kind": FailureKind.RATE_LIMITED, "error_code": "E7", "message": "too many", "http_status": 429}
    rerouted = story.rerouted().model_copy(update=failure)
    outcomes = tuple(
        attempt_outcome(story.job_id, n, provider=at, cost_usd=0.0, **failure)
        for n, at in ((1, "fal"), (2, "replicate"))
    )
    ends = JobFailed(**story.job(3, "failed"), kind=FailureKind.NO_ROUTE, message="nobody", attempts=outcomes)
    seen: list[Any] = []
    for message, status in ((rerouted, "queued"), (ends, "failed")):
        await world.publish(story.accepted(), message)

        async def tailed(status: str = status, version: int = message.version) -> bool:
            job = world.parts.tail.known(story.job_id).job
            return bool(job and (job.status, job.version) == (status, version))

        await until(tailed)
        seen.append((await world.client.get(posted["links"]["job"])).json())
    for job in seen:
        first = job["attempts"][0]
        assert (first["error_kind"], first["error_code"], first["http_status"]) == ("rate_limited", "E7", 429)
    log = (await world.client.get(posted["links"]["logs"])).json()["entries"]
    [moved] = [entry for entry in log if entry["event"] == "job.rerouted"]
    assert (moved["error_kind"], moved["error_code"], moved["http_status"]) == ("rate_limited", "E7", 429)
    await world.store(rerouted, ends)
    world.empty_tail()
    assert [moved] == [
        entry
        for entry in (await world.client.get(posted["links"]["logs"])).json()["entries"]
        if entry["event"] == "job.rerouted"
    ]


async def test_a_cancel_from_the_tail_shows_on_a_job_from_the_tables(world: Any, story_of: Any, until: Any) -> None:
    story = story_of(job_id_for(TENANT, "a cancel alone"))
    await world.store(story.accepted())
    await world.publish(CancelRequested(job_id=story.job_id, tenant=TENANT, occurred_at=story.begin))

    async def tailed() -> bool:
        return bool(world.parts.tail.known(story.job_id).log)

    await until(tailed)
    assert world.parts.tail.known(story.job_id).job is None
    job = (await world.client.get(f"/api/jobs/{story.job_id}")).json()
    assert (job["status"], job["cancel"]["effect"]) == ("queued", "pending")
