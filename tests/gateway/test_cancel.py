"""The answer to a cancel: how far the job had come and what it costs, also when it is read later."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.builders import attempt_event, attempt_outcome

from contracts.failures import FailureKind
from contracts.ids import job_id_for, track_id_for
from contracts.messages.attempts import AttemptAmbiguous
from contracts.messages.jobs import CancelEffect, JobCancelled, JobFailed
from contracts.messages.requests import CancelRequested
from gateway.context import TENANT
from gateway.queries.model import Attempt, Job
from gateway.views.cancellation import cancel_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
WAIT_S = 60
"""How long a cancel waits here by default: longer than a slow machine needs to learn of the end."""


@pytest.fixture
def waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.jobs.CANCEL_WAIT_S", WAIT_S)


def job(status: str, *attempts: Attempt, **more: Any) -> Job:
    job_id = job_id_for(TENANT, "cancel answers")
    ids = {"job_id": job_id, "track_id": track_id_for(job_id), "tenant": TENANT}
    known: Any = {**ids, "version": 1, "requested_at": NOW, "status": status, "attempts": attempts}
    return Job(**known | more)


def attempt(state: Any, **more: Any) -> Attempt:
    return Attempt(n=1, provider="fal", state=state, **more)


@pytest.mark.parametrize(
    ("answered", "effect", "words"),
    [
        (job("queued"), "pending", "how far it had come is not known"),
        (job("queued", attempt("queued")), "pending", "how far it had come is not known"),
        (job("queued", attempt("submitting")), "pending", "how far it had come is not known"),
        (job("queued", attempt("ambiguous")), "pending", "The answer to the submit at fal was lost"),
        (job("running", attempt("running", submitted_at=NOW)), "pending", "fal has been asked to stop the run"),
        (job("running", attempt("collecting", submitted_at=NOW)), "pending", "has finished the run and bills it"),
        (
            job("cancelled", attempt("cancelled"), cancel_effect="never_sent", cost_usd=0.0),
            "never_sent",
            "Stopped before it was sent to fal. It costs nothing.",
        ),
        (
            job("cancelled", cancel_effect="never_sent", cost_usd=0.0),
            "never_sent",
            "Stopped before it was sent to any provider. It costs nothing.",
        ),
        (
            job(
                "cancelled",
                attempt("failed", cost_usd=0.2),
                Attempt(n=2, provider="replicate", state="cancelled", cost_usd=0.0),
                cancel_effect="never_sent",
                cost_usd=0.2,
            ),
            "never_sent",
            "Stopped before it was sent again to replicate. It costs $0.2 in all.",
        ),
        (
            job("cancelled", attempt("cancelled"), cancel_effect="cancelled_free", cost_usd=0.0),
            "cancelled_free",
            "fal dropped the run before it began. It costs nothing.",
        ),
        (job("cancelled", attempt("cancelled"), cancel_effect="may_have_cost"), "may_have_cost", "was under way"),
        (job("cancelled", attempt("running"), cancel_effect="may_have_cost"), "may_have_cost", "fal may have begun"),
        (
            job("cancelled", attempt("failed", kind="ambiguous_submission"), cancel_effect="may_have_cost"),
            "may_have_cost",
            "Whether fal ever accepted the submit is not known",
        ),
        (job("cancelled", attempt("failed"), cancel_effect="may_have_cost"), "may_have_cost", "failed before it could"),
        (
            job("succeeded", cost_usd=0.03),
            "too_late",
            "succeeded before it could be stopped; its files are kept. It costs $0.03",
        ),
        (job("failed", error_kind="no_route", cost_usd=0.0), "too_late", "had already failed (no_route)"),
    ],
)
async def test_each_state_has_an_effect_and_a_message(answered: Job, effect: str, words: str) -> None:
    answer = cancel_answer(answered)
    assert answer.effect == effect
    assert words in answer.message


def cancelled(story: Any, effect: CancelEffect, **outcome: Any) -> JobCancelled:
    first = attempt_outcome(story.job_id, 1, **{"outcome": "cancelled", "cost_usd": 0.0, **outcome})
    return JobCancelled(**story.job(4, "cancelled"), effect=effect, attempts=(first,))


async def cancel(world: Any, job_id: str, **headers: str) -> httpx.Response:
    response: httpx.Response = await world.client.post(f"/api/jobs/{job_id}/cancel", headers=headers)
    return response


async def cancelling(world: Any, until: Any, job_id: str) -> asyncio.Task[httpx.Response]:
    """A cancel request that is waiting for the end of the job."""
    waiting = asyncio.create_task(cancel(world, job_id))

    async def waits() -> bool:
        return bool(world.parts.completion.waiters.now)

    await until(waits)
    return waiting


@pytest.mark.usefixtures("waits_long")
@pytest.mark.parametrize(
    ("effect", "outcome", "cost"),
    [
        ("never_sent", {}, 0.0),
        ("cancelled_free", {}, 0.0),
        ("may_have_cost", {"cost_usd": None}, None),
        (
            "may_have_cost",
            {"outcome": "failed", "kind": FailureKind.AMBIGUOUS_SUBMISSION, "cost_usd": None, "message": "lost"},
            None,
        ),
    ],
)
async def test_a_cancel_waits_for_the_outcome_and_the_job_shows_it_later(
    world: Any, story_of: Any, until: Any, effect: CancelEffect, outcome: dict[str, Any], cost: float | None
) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.publish(story.accepted())
    began = time.monotonic()
    waiting = await cancelling(world, until, job_id)
    ending = cancelled(story, effect, **outcome)
    await world.publish(ending)
    response = await waiting
    assert time.monotonic() - began < WAIT_S, "it waited for the whole time although the job had ended"
    answered = response.json()
    assert (response.status_code, answered["id"], answered["status"], answered["cost_usd"]) == (
        200,
        job_id,
        "cancelled",
        cost,
    )
    assert answered["cancel"]["effect"] == effect

    again = await cancel(world, job_id)
    assert (again.status_code, again.json()) == (200, answered)
    seen = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert seen["cancel"] == answered["cancel"]
    request = CancelRequested(job_id=job_id, occurred_at=datetime.now(UTC), tenant=TENANT)
    await world.store(story.accepted(), request, ending)
    world.empty_tail()
    stored = (await world.client.get(f"/api/jobs/{job_id}")).json()
    # Without events of attempts the tables have no attempts, only the effect of the cancel.
    assert (stored["cancel"]["effect"], stored["status"], stored["cost_usd"]) == (effect, "cancelled", cost)


async def test_a_cancel_without_an_outcome_in_time_is_pending_and_can_be_repeated(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.publish(story.accepted(), story.started())
    for wait in ("0", "1"):
        response = await cancel(world, job_id, prefer=f"wait={wait}")
        assert (response.status_code, response.headers["preference-applied"]) == (202, f"wait={wait}")
        assert response.json()["cancel"]["effect"] == "pending"
    seen = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert seen["cancel"]["effect"] == "pending"
    log = (await world.client.get(f"/api/jobs/{job_id}/logs")).json()["entries"]
    assert [entry["event"] for entry in log].count("job.cancel_requested") == 1


async def test_a_pending_cancel_is_read_from_the_tables(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    await cancel(world, job_id, prefer="wait=0")
    request = CancelRequested(job_id=job_id, occurred_at=datetime.now(UTC), tenant=TENANT)
    await world.store(story_of(job_id).accepted(), request)
    world.empty_tail()
    assert (await world.client.get(f"/api/jobs/{job_id}")).json()["cancel"]["effect"] == "pending"


@pytest.mark.usefixtures("waits_long")
async def test_a_cancel_of_a_job_that_succeeds_is_too_late(world: Any, story_of: Any, until: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.publish(*story.jobs()[:-1])
    waiting = await cancelling(world, until, job_id)
    await world.publish(story.succeeded())
    response = await waiting
    answered = response.json()
    assert (response.status_code, answered["status"], answered["cancel"]["effect"]) == (200, "succeeded", "too_late")
    assert [artifact["name"] for artifact in answered["artifacts"]] == ["track.mp3"]
    assert (
        answered["cancel"]["message"]
        == "The job succeeded before it could be stopped; its files are kept. It costs $0.03 in all."
    )
    assert (await world.client.get(f"/api/jobs/{job_id}")).json()["cancel"] == answered["cancel"]


async def test_a_cancel_of_a_final_job_answers_with_its_end_and_publishes_nothing(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    ended = JobFailed(**story.job(4, "failed"), kind=FailureKind.NO_ROUTE, message="nobody could", cost_usd=0.2)
    await world.store(story.accepted(), ended)
    response = await cancel(world, job_id)
    answered = response.json()["cancel"]
    assert (response.status_code, answered["effect"]) == (200, "too_late")
    assert (
        answered["message"] == "The job had already failed (no_route); nothing was left to stop. It costs $0.2 in all."
    )
    seen = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert seen["cancel"] is None
    log = (await world.client.get(f"/api/jobs/{job_id}/logs")).json()["entries"]
    assert "job.cancel_requested" not in [entry["event"] for entry in log]


async def test_a_pending_cancel_names_the_ambiguous_attempt(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    said = {"message": "no answer within 30 s", "resolve_by": story.begin + timedelta(minutes=9)}
    lost = attempt_event(AttemptAmbiguous, story.job_id, 1, 2, story.begin, **said)
    await world.store(story.accepted(), lost)
    answered = (await cancel(world, job_id, prefer="wait=0")).json()
    assert answered["cancel"]["effect"] == "pending"
    assert "The answer to the submit at fal was lost" in answered["cancel"]["message"]
    [shown] = answered["attempts"]
    assert (shown["id"], shown["state"]) == (story.attempt(1), "ambiguous")
    assert datetime.fromisoformat(shown["resolve_by"]) == lost.resolve_by


@pytest.mark.parametrize("job_id", ["nope", job_id_for(TENANT, "none"), job_id_for("other", "x")])
async def test_a_cancel_of_an_unknown_job_is_a_404(world: Any, job_id: str) -> None:
    response = await cancel(world, job_id)
    assert (response.status_code, response.json()["type"]) == (404, "urn:segue:problem:job-not-found")
