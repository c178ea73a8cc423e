"""What a client that cancels is told: how far the job had come, what it costs, and that later too."""

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
"""How long a cancel waits here where it does not say: longer than a slow machine needs to hear of the end."""


@pytest.fixture
def waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.jobs.CANCEL_WAIT_S", WAIT_S)


def job(status: str, *attempts: Attempt, **more: Any) -> Job:
    job_id = job_id_for(TENANT, "in words")
    ids = {"job_id": job_id, "track_id": track_id_for(job_id), "tenant": TENANT}
    known: Any = {**ids, "version": 1, "requested_at": NOW, "status": status, "attempts": attempts}
    return Job(**known | more)


def attempt(state: Any, **more: Any) -> Attempt:
    return Attempt(n=1, provider="fal", state=state, **more)


@pytest.mark.parametrize(
    ("told", "effect", "words"),
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
        (
            job("cancelled", attempt("failed", kind="ambiguous_submission"), cancel_effect="may_have_cost"),
            "may_have_cost",
            "Whether fal ever accepted the run is not known",
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
async def test_each_state_has_an_effect_and_words_for_it(told: Job, effect: str, words: str) -> None:
    answer = cancel_answer(told)
    assert answer.effect == effect
    assert words in answer.message


def cancelled(story: Any, effect: CancelEffect, **outcome: Any) -> JobCancelled:
    first = attempt_outcome(story.job_id, 1, **{"outcome": "cancelled", "cost_usd": 0.0, **outcome})
    return JobCancelled(**story.job(4, "cancelled"), effect=effect, attempts=(first,))


async def cancel(world: Any, job_id: str, **headers: str) -> httpx.Response:
    response: httpx.Response = await world.client.post(f"/api/jobs/{job_id}/cancel", headers=headers)
    return response


async def cancelling(world: Any, until: Any, job_id: str) -> asyncio.Task[httpx.Response]:
    """A cancel that is on its way and waits for the job's end."""
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
async def test_it_waits_for_the_outcome_and_tells_it_then_and_later(
    world: Any, story_of: Any, until: Any, effect: CancelEffect, outcome: dict[str, Any], cost: float | None
) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.say(story.accepted())
    began = time.monotonic()
    waiting = await cancelling(world, until, job_id)
    ending = cancelled(story, effect, **outcome)
    await world.say(ending)
    response = await waiting
    assert time.monotonic() - began < WAIT_S, "it heard of the end, and did not wait for the time to pass"
    told = response.json()
    assert (response.status_code, told["id"], told["status"], told["cost_usd"]) == (200, job_id, "cancelled", cost)
    assert told["cancel"]["effect"] == effect

    again = await cancel(world, job_id)
    assert (again.status_code, again.json()) == (200, told)
    seen = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert seen["cancel"] == told["cancel"]
    wish = CancelRequested(job_id=job_id, occurred_at=datetime.now(UTC), tenant=TENANT)
    await world.store(story.accepted(), wish, ending)
    world.empty_tail()
    stored = (await world.client.get(f"/api/jobs/{job_id}")).json()
    # Without attempts' own events the tables know no attempt, only what came of the wish.
    assert (stored["cancel"]["effect"], stored["status"], stored["cost_usd"]) == (effect, "cancelled", cost)


async def test_what_is_not_known_in_time_is_pending_and_repeating_it_is_harmless(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.say(story.accepted(), story.started())
    for wait in ("0", "1"):
        response = await cancel(world, job_id, prefer=f"wait={wait}")
        assert (response.status_code, response.headers["preference-applied"]) == (202, f"wait={wait}")
        assert response.json()["cancel"]["effect"] == "pending"
    seen = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert seen["cancel"]["effect"] == "pending"
    log = (await world.client.get(f"/api/jobs/{job_id}/logs")).json()["entries"]
    assert [entry["event"] for entry in log].count("job.cancel_requested") == 1


async def test_the_tables_know_that_a_cancel_is_pending(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    await cancel(world, job_id, prefer="wait=0")
    wish = CancelRequested(job_id=job_id, occurred_at=datetime.now(UTC), tenant=TENANT)
    await world.store(story_of(job_id).accepted(), wish)
    world.empty_tail()
    assert (await world.client.get(f"/api/jobs/{job_id}")).json()["cancel"]["effect"] == "pending"


@pytest.mark.usefixtures("waits_long")
async def test_a_job_that_succeeds_all_the_same_was_asked_too_late(world: Any, story_of: Any, until: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.say(*story.jobs()[:-1])
    waiting = await cancelling(world, until, job_id)
    await world.say(story.succeeded())
    response = await waiting
    told = response.json()
    assert (response.status_code, told["status"], told["cancel"]["effect"]) == (200, "succeeded", "too_late")
    assert [artifact["name"] for artifact in told["artifacts"]] == ["track.mp3"]
    assert (
        told["cancel"]["message"]
        == "The job succeeded before it could be stopped; its files are kept. It costs $0.03 in all."
    )
    assert (await world.client.get(f"/api/jobs/{job_id}")).json()["cancel"] == told["cancel"]


async def test_a_job_that_has_ended_is_told_as_it_ended_and_nothing_is_asked(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    ended = JobFailed(**story.job(4, "failed"), kind=FailureKind.NO_ROUTE, message="nobody could", cost_usd=0.2)
    await world.store(story.accepted(), ended)
    response = await cancel(world, job_id)
    told = response.json()["cancel"]
    assert (response.status_code, told["effect"]) == (200, "too_late")
    assert told["message"] == "The job had already failed (no_route); nothing was left to stop. It costs $0.2 in all."
    seen = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert seen["cancel"] is None
    log = (await world.client.get(f"/api/jobs/{job_id}/logs")).json()["entries"]
    assert "job.cancel_requested" not in [entry["event"] for entry in log]


async def test_an_ambiguous_attempt_is_named_while_the_cancel_waits_for_it(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    said = {"message": "no answer within 30 s", "resolve_by": story.begin + timedelta(minutes=9)}
    lost = attempt_event(AttemptAmbiguous, story.job_id, 1, 2, story.begin, **said)
    await world.store(story.accepted(), lost)
    told = (await cancel(world, job_id, prefer="wait=0")).json()
    assert told["cancel"]["effect"] == "pending"
    assert "The answer to the submit at fal was lost" in told["cancel"]["message"]
    [shown] = told["attempts"]
    assert (shown["id"], shown["state"]) == (story.attempt(1), "ambiguous")
    assert datetime.fromisoformat(shown["resolve_by"]) == lost.resolve_by


@pytest.mark.parametrize("job_id", ["nope", job_id_for(TENANT, "none"), job_id_for("other", "x")])
async def test_what_is_not_there_cannot_be_cancelled(world: Any, job_id: str) -> None:
    response = await cancel(world, job_id)
    assert (response.status_code, response.json()["type"]) == (404, "urn:segue:problem:job-not-found")
