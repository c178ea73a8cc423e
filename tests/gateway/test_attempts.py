"""The calls for operators: list ambiguous attempts, resolve one, and fetch an output again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.builders import attempt_fields, job_requested

from contracts.failures import FailureKind
from contracts.ids import attempt_id_for, job_id_for
from contracts.messages.attempts import AttemptAmbiguous, AttemptFailed, AttemptSubmitting, AttemptSucceeded
from contracts.messages.requests import JobRequested
from contracts.modalities.music import MusicInput
from gateway.context import TENANT

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPT = "Slow country ballad\twith a very long story. " * 20


def about(story: Any, version: int, **more: Any) -> dict[str, Any]:
    return attempt_fields(story.job_id, 1, version, story.begin + timedelta(milliseconds=version), **more)


def requested(story: Any) -> JobRequested:
    return job_requested(story.job_id, story.begin, tenant=TENANT, input=MusicInput(prompt=PROMPT, duration_s=20))


def lost(story: Any, **more: Any) -> list[Any]:
    message = "no answer within 30 s"
    return [
        requested(story),
        story.accepted(),
        AttemptSubmitting(**about(story, 1, **more)),
        AttemptAmbiguous(**about(story, 2, **more), message=message, resolve_by=story.begin + timedelta(minutes=9)),
    ]


def given_up(story: Any, **more: Any) -> AttemptFailed:
    shown = {"kind": FailureKind.AMBIGUOUS_SUBMISSION, "message": "the listing did not settle it", "accepted": False}
    return AttemptFailed(**about(story, 3, **more), **shown)


async def story_named(world: Any, story_of: Any, key: str) -> Any:
    return story_of(job_id_for(TENANT, key))


async def test_a_lost_submit_is_listed_with_the_facts_needed_to_find_it(world: Any, story_of: Any) -> None:
    story = await story_named(world, story_of, "lost and listed")
    await world.store(*lost(story))
    page = (await world.client.get("/api/attempts", params={"ambiguous": "true", "limit": 100})).json()
    [shown] = [each for each in page["attempts"] if each["job_id"] == story.job_id]
    assert shown == (await world.client.get(f"/api/attempts/{story.attempt(1)}")).json()
    assert (shown["id"], shown["state"], shown["ambiguous"], shown["late"]) == (
        story.attempt(1),
        "ambiguous",
        True,
        False,
    )
    assert (shown["provider"], shown["endpoint"], shown["model"]) == (
        "fal",
        "fal-ai/minimax-music/v2",
        "music/minimax-2",
    )
    assert shown["price_usd"] > 0
    assert shown["prompt"].startswith("Slow country ballad with")
    assert len(shown["prompt"]) == 201
    assert "a run of fal-ai/minimax-music/v2, made at 20" in shown["look_for"]
    assert "fal.ai/dashboard" in shown["look_for"]
    assert datetime.fromisoformat(shown["resolve_by"]) == story.begin + timedelta(minutes=9)
    assert (shown["job_status"], shown["message"]) == ("queued", "no answer within 30 s")
    assert datetime.fromisoformat(shown["job_deadline_at"]) == story.begin + timedelta(minutes=30)


async def test_an_ambiguous_attempt_is_listed_until_it_is_resolved(world: Any, story_of: Any) -> None:
    story = await story_named(world, story_of, "lost and found out")
    mine = {"params": {"ambiguous": "true", "provider": "fal", "limit": 100}}

    async def listed() -> bool:
        page = (await world.client.get("/api/attempts", **mine)).json()
        return story.attempt(1) in [each["id"] for each in page["attempts"]]

    await world.store(*lost(story)[:-1])
    assert not await listed()
    await world.store(lost(story)[-1])
    assert await listed()
    await world.store(given_up(story), story.failed())
    assert await listed(), "its job has failed, and it is still ambiguous"
    shown = (await world.client.get(f"/api/attempts/{story.attempt(1)}")).json()
    assert (shown["state"], shown["error_kind"], shown["job_status"]) == ("failed", "ambiguous_submission", "failed")
    known = {"kind": FailureKind.NEVER_ACCEPTED, "message": "an operator says so", "accepted": False, "cost_usd": 0.0}
    await world.store(AttemptFailed(**about(story, 4), **known, late=True))
    assert not await listed()
    shown = (await world.client.get(f"/api/attempts/{story.attempt(1)}")).json()
    assert (shown["error_kind"], shown["late"], shown["cost_usd"]) == ("never_accepted", True, 0.0)
    assert shown["look_for"] is None


async def test_the_list_has_pages(world: Any, story_of: Any) -> None:
    stories = [await story_named(world, story_of, f"page {n}") for n in range(5)]
    place = {"provider": "replicate", "endpoint": "minimax/music-1.5"}
    for n, story in enumerate(stories):
        at = datetime(2031, 1, 1, n // 2, tzinfo=UTC)  # two at the same time
        await world.store(story.accepted(), AttemptSubmitting(**about(story, 1, occurred_at=at, **place)))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while len(seen) < 5:
        asked = {"limit": "2", "provider": "replicate", **cursor}
        page = (await world.client.get("/api/attempts", params=asked)).json()
        seen += [each["id"] for each in page["attempts"]]
        cursor = {"cursor": page["next_cursor"]}
    mine = {story.attempt(1) for story in stories}
    assert set(seen[:5]) == mine
    assert len(seen) == len(set(seen))
    ambiguous = (await world.client.get("/api/attempts", params={"ambiguous": "true", "limit": "100"})).json()
    assert mine.isdisjoint(each["id"] for each in ambiguous["attempts"])


@pytest.mark.parametrize("query", ["provider=acme", "ambiguous=maybe", "cursor=bm90", "limit=101"])
async def test_an_invalid_query_is_a_422(world: Any, query: str) -> None:
    assert (await world.client.get(f"/api/attempts?{query}")).status_code == 422


@pytest.mark.parametrize(
    "attempt_id",
    ["nope", attempt_id_for(job_id_for(TENANT, "none"), 1), job_id_for(TENANT, "none"), "%00"],
)
async def test_an_unknown_attempt_is_a_404(world: Any, attempt_id: str) -> None:
    for response in (
        await world.client.get(f"/api/attempts/{attempt_id}"),
        await world.client.post(f"/api/attempts/{attempt_id}/resolve", json={"never_accepted": True}),
    ):
        assert (response.status_code, response.json()["type"]) == (404, "urn:segue:problem:attempt-not-found")


@pytest.mark.parametrize(
    ("name", "verdict", "provider_ref", "words"),
    [
        ("runs", {"accepted": "req_0-1x"}, "req_0-1x", "The job goes on with the run req_0-1x at fal"),
        ("odd", {"accepted": "-_" * 100}, "-_" * 100, "The job goes on with the run -_-_"),
        ("never", {"never_accepted": True}, None, "may be paid for elsewhere"),
    ],
)
async def test_a_verdict_is_in_kafka_before_its_202(
    world: Any, story_of: Any, until: Any, name: str, verdict: dict[str, Any], provider_ref: str | None, words: str
) -> None:
    story = await story_named(world, story_of, f"verdict {name}")
    await world.store(*lost(story))
    response = await world.client.post(f"/api/attempts/{story.attempt(1)}/resolve", json=verdict)
    shown = response.json()
    assert (response.status_code, shown["attempt_id"], shown["job_id"]) == (202, story.attempt(1), story.job_id)
    assert words in shown["message"]
    [line] = [x for x in world.parts.tail.known(story.job_id).log if x.event == "attempt.resolution_requested"]
    assert (line.provider, line.attempt) == ("fal", 1)
    assert (provider_ref or "never accepted") in line.message


async def test_a_verdict_on_an_attempt_whose_job_has_failed_says_that_the_job_stays_so(
    world: Any, story_of: Any
) -> None:
    story = await story_named(world, story_of, "verdict after the end")
    await world.store(*lost(story), given_up(story), story.failed())
    url = f"/api/attempts/{story.attempt(1)}/resolve"
    kept, never = await asyncio.gather(
        world.client.post(url, json={"accepted": "x1"}), world.client.post(url, json={"never_accepted": True})
    )
    assert (kept.status_code, never.status_code) == (202, 202)
    assert (
        "The job is failed, and stays so; the output of the run x1, which fal bills, is kept" in kept.json()["message"]
    )
    assert "The job is failed, and stays so; fal billed nothing" in never.json()["message"]


async def test_a_verdict_on_an_attempt_that_is_not_ambiguous_is_a_409_with_its_state(world: Any, story_of: Any) -> None:
    story = await story_named(world, story_of, "not ambiguous")
    done = AttemptSucceeded(**about(story, 3, provider_ref="req-9"), artifacts=(story.artifact,), cost_usd=0.1)
    await world.store(*lost(story), done)
    response = await world.client.post(f"/api/attempts/{story.attempt(1)}/resolve", json={"never_accepted": True})
    assert (response.status_code, response.json()["type"]) == (409, "urn:segue:problem:attempt-not-ambiguous")
    assert response.json()["detail"] == "the attempt is succeeded, as req-9 at fal"


async def test_an_attempt_that_counts_as_never_accepted_can_be_accepted_but_not_rejected_again(
    world: Any, story_of: Any
) -> None:
    story = await story_named(world, story_of, "found after all")
    known = {"kind": FailureKind.NEVER_ACCEPTED, "message": "not in the listing", "accepted": False, "cost_usd": 0.0}
    await world.store(*lost(story), AttemptFailed(**about(story, 3), **known))
    url = f"/api/attempts/{story.attempt(1)}/resolve"
    again = await world.client.post(url, json={"never_accepted": True})
    assert again.json()["detail"] == "the attempt is failed (never_accepted)"
    found = await world.client.post(url, json={"accepted": "found-1"})
    assert (found.status_code, again.status_code) == (202, 409)
    assert (
        "The job has gone on elsewhere; the output of the run found-1, which fal bills, is kept"
        in found.json()["message"]
    )


async def test_a_run_of_another_attempt_is_refused(world: Any, story_of: Any) -> None:
    owner, story = [await story_named(world, story_of, name) for name in ("owner of the run", "not its owner")]
    runs = AttemptSucceeded(**about(owner, 3, provider_ref="taken-1"), artifacts=(owner.artifact,), cost_usd=0.1)
    await world.store(*lost(owner), runs, *lost(story))
    url = f"/api/attempts/{story.attempt(1)}/resolve"
    refused = await world.client.post(url, json={"accepted": "taken-1"})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:segue:problem:run-of-another-attempt")
    assert owner.job_id not in refused.text
    assert world.parts.tail.known(story.job_id).log == ()
    assert (await world.client.post(url, json={"accepted": "taken-2"})).status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"accepted": "a", "never_accepted": True},
        {"accepted": ""},
        {"accepted": "../v1/account"},
        {"accepted": "a\n"},
        {"accepted": "a" * 201},
        {"accepted": None},
        {"never_accepted": False},
        {"never_accepted": None},
        {"never_accepted": 1},
        {"refused": True},
        [],
    ],
)
async def test_an_invalid_verdict_is_a_422(world: Any, story_of: Any, body: Any) -> None:
    story = await story_named(world, story_of, "no verdict")
    await world.store(*lost(story))
    response: httpx.Response = await world.client.post(f"/api/attempts/{story.attempt(1)}/resolve", json=body)
    assert (response.status_code, response.json()["type"]) == (422, "urn:segue:problem:invalid-request")
    assert response.json()["errors"][0]["problem"]
    assert world.parts.tail.known(story.job_id).log == ()


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (FailureKind.OUTPUT_REFUSED, 202),
        (FailureKind.OUTPUT_UNREADABLE, 202),
        (FailureKind.OUTPUT_UNUSABLE, 202),
        (FailureKind.OUTPUT_LOST, 202),
        (FailureKind.STORE_FAILED, 202),
        (FailureKind.MODEL_ERROR, 409),
        (FailureKind.CONTENT_POLICY, 409),
    ],
)
async def test_a_paid_output_can_be_fetched_again(world: Any, story_of: Any, kind: FailureKind, status: int) -> None:
    story = await story_named(world, story_of, f"collect {kind}")
    known = {"kind": kind, "message": "why", "accepted": True, "cost_usd": 0.2, "provider_ref": f"run-{kind}"}
    await world.store(*lost(story)[:-1], AttemptFailed(**about(story, 3), **known), story.failed())
    response = await world.client.post(f"/api/attempts/{story.attempt(1)}/collect")
    assert response.status_code == status
    lines = [x for x in world.parts.tail.known(story.job_id).log if x.event == "attempt.collection_requested"]
    if status == 202:
        assert "nothing is paid for" in response.json()["message"]
        assert [(line.provider, line.attempt) for line in lines] == [("fal", 1)]
    else:
        assert response.json()["type"] == "urn:segue:problem:nothing-to-collect"
        assert lines == []


async def test_attempts_that_never_ran_or_succeeded_have_no_output_to_fetch_again(world: Any, story_of: Any) -> None:
    stories = [await story_named(world, story_of, f"nothing to collect {n}") for n in range(2)]
    done = AttemptSucceeded(**about(stories[1], 3, provider_ref="r-1"), artifacts=(stories[1].artifact,), cost_usd=0.1)
    await world.store(*lost(stories[0]), *lost(stories[1]), done)
    for story in stories:
        assert (await world.client.post(f"/api/attempts/{story.attempt(1)}/collect")).status_code == 409
    assert (await world.client.post("/api/attempts/nope/collect")).status_code == 404


async def test_a_body_that_is_not_json_is_a_400_and_another_content_type_a_415(world: Any) -> None:
    url = f"/api/attempts/{attempt_id_for(job_id_for(TENANT, 'none'), 1)}/resolve"
    assert (await world.client.post(url, content=b"{", headers={"content-type": "application/json"})).status_code == 400
    assert (await world.client.post(url, content=b"{}", headers={"content-type": "text/plain"})).status_code == 415
