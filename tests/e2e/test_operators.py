"""Ambiguous submits: listed for operators, resolved by them, and kept on the attempt if the job has ended."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import patient

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

Segue = Callable[..., Awaitable[tuple[int, str]]]


async def without_listings(system: System, prompt: str, action: dict[str, Any]) -> None:
    """Apply a fault to requests whose prompt contains these words, and fail all listings."""
    await system.fault(prompt, action)
    await hide_listings(system)


NO_LISTING = {"on": "list", "action": {"refuse": {"status": 500, "body": {"detail": "no"}}}}


async def hide_listings(system: System) -> None:
    (await system.sandbox.post("/faults", json=[NO_LISTING])).raise_for_status()


async def only_hide_listings(system: System) -> None:
    """Replace all faults by failing listings, without a moment in which a listing succeeds."""
    (await system.sandbox.put("/faults", json=[NO_LISTING])).raise_for_status()


async def all_lost(system: System, segue: Segue, words: str) -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
    """A lost submit at each provider, and one that was never received, all of ended jobs: prompts, jobs, attempts.

    A submit counts as ambiguous only after a while, so all three wait together.
    """
    prompts = {one: f"{words} {one}" for one in ("fal", "replicate", "nobody")}
    for who, prompt in prompts.items():
        action = {"refuse": "drop"} if who == "nobody" else {"accept_then": "hang"}
        await without_listings(system, prompt, action)
    ids = {
        who: await system.submit(prompt, providers=["fal" if who == "nobody" else who], deadline_s=patient(3))
        for who, prompt in prompts.items()
    }
    return prompts, ids, {who: await ambiguous(system, segue, job_id, "failed") for who, job_id in ids.items()}


async def ambiguous(system: System, segue: Segue, job_id: str, state: str = "ambiguous") -> dict[str, Any]:
    """The job's attempt, once the list of ambiguous attempts shows it."""

    def among(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [each for each in found if each["job_id"] == job_id and each["state"] == state]

    async def listed() -> bool:
        answer = await system.api.get("/api/attempts", params={"ambiguous": True, "limit": 100})
        return answer.is_success and among(answer.json()["attempts"]) != []

    await system.until(f"the attempt of job {job_id} is listed", listed)
    code, output = await segue("attempts", "--ambiguous", "--json", "--limit", "100")
    assert code == 0, output
    [attempt] = among(json.loads(output))
    return attempt


async def run_id_of(system: System, prompt: str) -> str:
    [post] = await system.posts(prompt)
    return str(post["request_id"])


async def test_a_job_goes_on_with_the_run_that_an_operator_found(system: System, segue: Segue) -> None:
    prompt, provider = "found by an operator", "fal"
    await without_listings(system, prompt, {"accept_then": "hang"})
    job_id = await system.submit(prompt, providers=[provider])
    attempt = await ambiguous(system, segue, job_id)
    assert prompt in attempt["look_for"]
    assert attempt["price_usd"] > 0
    ref = await run_id_of(system, prompt)
    code, output = await segue("attempts", "resolve", attempt["id"], "--accepted", ref)
    assert code == 0, output
    assert f"The job goes on with the run {ref} at {provider}" in output
    assert "the job has its files" in output
    job = await system.ended(job_id)
    assert (job["status"], [each["provider_ref"] for each in job["attempts"]]) == ("succeeded", [ref])
    assert "attempt.resolution_requested" in [entry["event"] for entry in await system.log(job_id)]
    await system.assert_paid_once([job], prompt)
    code, output = await segue("attempts", "resolve", attempt["id"], "--never-accepted", "--yes")
    assert (code, "Nothing was changed" in output) == (1, True)


async def test_never_accepted_lets_the_job_move_on_and_has_to_be_confirmed(system: System, segue: Segue) -> None:
    prompt = "never was, says the operator"
    await without_listings(system, prompt, {"refuse": "drop"})
    job_id = await system.submit(prompt, providers=["replicate", "fal"])
    attempt = await ambiguous(system, segue, job_id)
    await only_hide_listings(system)  # Otherwise Segue resolves it from the listing.
    code, output = await segue("attempts", "resolve", attempt["id"], "--never-accepted", stdin="n\n")
    assert (code, "Nothing was changed." in output) == (2, True)
    assert f"You looked for a run of {attempt['endpoint']}" in output
    code, output = await segue("attempts", "resolve", attempt["id"], "--never-accepted", stdin="y\n")
    assert code == 0, output
    job = await system.ended(job_id)
    refused = job["attempts"][0]
    assert (refused["provider"], refused["error_kind"], refused["cost_usd"]) == ("replicate", "never_accepted", 0.0)
    assert (job["status"], job["provider"]) == ("succeeded", "fal")
    await system.assert_paid_once([job], prompt)


async def test_a_resolution_after_the_jobs_end_is_kept_on_the_attempt(system: System, segue: Segue) -> None:
    prompts, ids, attempts = await all_lost(system, segue, "too late for the job at")
    failed = {who: await system.ended(job_id) for who, job_id in ids.items()}
    for job in failed.values():
        assert (job["status"], job["error"]["kind"], job["cost_usd"]) == ("failed", "ambiguous_submission", None)
    await only_hide_listings(system)  # Otherwise Segue resolves it from the listing.

    for provider in ("fal", "replicate"):
        attempt, prompt = attempts[provider], prompts[provider]
        ref = await run_id_of(system, prompt)
        code, output = await segue("attempts", "resolve", attempt["id"], "--accepted", ref)
        assert code == 0, output
        assert "its files are kept on the attempt" in output
        job = await system.ended(ids[provider])
        [late] = job["attempts"]
        assert (job["status"], job["error"], job["artifacts"]) == ("failed", failed[provider]["error"], [])
        assert (late["state"], late["late"], late["provider_ref"]) == ("succeeded", True, ref)
        assert job["cost_usd"] == late["cost_usd"] == attempt["price_usd"]
        [file] = late["late_artifacts"]
        fetched = await system.api.get(file["url"])
        assert (fetched.status_code, len(fetched.content)) == (200, file["size_bytes"])
        assert "late result" in " ".join(entry["message"] for entry in await system.log(job["id"]))
        await system.assert_paid_once([job], prompt)

    code, output = await segue("attempts", "resolve", attempts["nobody"]["id"], "--never-accepted", "--yes")
    assert code == 0, output
    assert "It failed (never_accepted)" in output
    assert "its job had gone on without it, and is failed" in output
    job = await system.ended(ids["nobody"])
    assert (job["status"], job["error"], job["cost_usd"]) == ("failed", failed["nobody"]["error"], 0.0)
    assert [(each["error_kind"], each["late"]) for each in job["attempts"]] == [("never_accepted", True)]


async def test_a_job_ends_at_its_deadline_and_what_a_later_listing_shows_is_kept(system: System, segue: Segue) -> None:
    prompts, ids, _ = await all_lost(system, segue, "searched for at")
    grace = timedelta(seconds=float(system.env["SEGUE_SUBMIT_GRACE_S"]))
    for job_id in ids.values():
        job = await system.ended(job_id)
        assert (job["status"], job["error"]["kind"], job["cost_usd"]) == ("failed", "ambiguous_submission", None)
        begun = job["attempts"][0]["submitting_at"]
        took = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(begun)
        assert took < grace, "it waited for the end of the grace"
    (await system.sandbox.put("/faults", json=[])).raise_for_status()

    async def resolved() -> list[dict[str, Any]] | None:
        jobs = [await system.ended(job_id) for job_id in ids.values()]
        return jobs if all(job["attempts"][0]["late"] and job["cost_usd"] is not None for job in jobs) else None

    for job in await system.until("all are resolved", resolved, 90) or []:
        [attempt] = job["attempts"]
        assert (job["status"], job["error"]["kind"]) == ("failed", "ambiguous_submission")
        if job["id"] == ids["nobody"]:
            assert (attempt["error_kind"], job["cost_usd"]) == ("never_accepted", 0.0)
        else:
            assert (attempt["state"], job["cost_usd"]) == ("succeeded", attempt["cost_usd"])
            await system.assert_paid_once([job], prompts[attempt["provider"]])
