"""Cancellation in each state of a job: what the API answers, and what the provider bills."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import patient

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROVIDERS = ("fal", "replicate")
STATES: list[tuple[str, dict[str, Any], str | None, str, float | None]] = [
    ("held back", {"refuse": "rate_limited"}, None, "never_sent", 0.0),
    ("in its queue", {"stuck_queue": True}, "in the provider's queue", "cancelled_free", 0.0),
    ("at work", {"never_finish": True}, "running", "may_have_cost", None),
]


async def cancel(system: System, job_id: str, wait_s: int = 60) -> tuple[int, dict[str, Any]]:
    answer = await system.api.post(f"/api/jobs/{job_id}/cancel", headers={"Prefer": f"wait={wait_s}"})
    cancelled: dict[str, Any] = answer.json()
    return answer.status_code, cancelled


async def until_attempt_is(system: System, job_id: str, state: str) -> None:
    """Wait until the job's only attempt is in this state, and an event of its adapter has been stored."""

    async def reached() -> bool:
        job = await system.job(job_id)
        return [(each["state"], bool(each["submitting_at"])) for each in job.get("attempts", ())] == [(state, True)]

    await system.until(f"the attempt of job {job_id} is {state}", reached)


async def until_logged(system: System, job_id: str, words: str) -> None:
    async def logged() -> bool:
        return any((entry["message"] or "").split(",")[0] == words for entry in await system.log(job_id))

    await system.until(f"{words!r} is in the log of job {job_id}", logged)


async def test_each_state_has_its_cancel_effect_and_cost(system: System) -> None:
    async def one(provider: str, where: str, fault: dict[str, Any], words: str | None, effect: str, cost: Any) -> None:
        prompt = f"cancelled while {where} at {provider}"
        await system.fault(prompt, fault, provider=provider)
        job_id = await system.submit(prompt, providers=[provider])
        await until_attempt_is(system, job_id, "running" if words else "queued")
        if words:
            await until_logged(system, job_id, words)
        status, answer = await cancel(system, job_id)
        assert (status, answer["status"]) == (200, "cancelled")
        assert (answer["cancel"]["effect"], answer["cost_usd"]) == (effect, cost)
        assert answer["cancel"]["message"]
        job = await system.ended(job_id)
        assert (job["cancel"], job["cost_usd"]) == (answer["cancel"], cost)
        assert (await cancel(system, job_id))[1]["cancel"] == answer["cancel"]
        log = await system.log(job_id)
        assert log[-1]["event"] == "job.cancelled"
        assert [entry["event"] for entry in log].count("job.cancel_requested") == 1
        posts = await system.posts(prompt)
        assert any(post["accepted"] for post in posts) is (effect != "never_sent")

    await asyncio.gather(*(one(provider, *case) for provider in PROVIDERS for case in STATES))
    await system.until_no_run("cancelled while")


async def test_a_lost_submit_is_pending_until_it_is_found(system: System) -> None:
    # Replicate's listing shows a run that goes on, so it is stopped; fal's shows it once it is finished, so it is kept.
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        "fal": ({"accept_then": "hang", "run_s": 1}, "succeeded", "too_late"),
        "replicate": ({"accept_then": "hang", "never_finish": True}, "cancelled", "may_have_cost"),
    }

    async def lost(provider: str) -> str:
        prompt = f"cancelled while lost at {provider}"
        await system.fault(prompt, cases[provider][0], provider=provider)
        job_id = await system.submit(prompt, providers=[provider])
        await until_attempt_is(system, job_id, "ambiguous")
        status, answer = await cancel(system, job_id, 0)
        assert (status, answer["cancel"]["effect"]) == (202, "pending")
        assert f"The answer to the submit at {provider} was lost" in answer["cancel"]["message"]
        assert (await system.job(job_id))["cancel"]["effect"] == "pending"
        return job_id

    for provider in cases:
        await system.fault("", {"refuse": {"status": 500, "body": {"detail": "no"}}}, on="list", provider=provider)
    ids = await asyncio.gather(*map(lost, cases))
    (await system.sandbox.put("/faults", json=[])).raise_for_status()
    for job_id, (_, ends, effect) in zip(ids, cases.values(), strict=True):
        status, answer = await cancel(system, job_id)
        assert (status, answer["status"], answer["cancel"]["effect"]) == (200, ends, effect)
    await system.until_no_run("while lost")


async def test_a_cancelled_submit_that_the_provider_never_received_was_never_sent(system: System) -> None:
    await system.fault("cancelled unheard of", {"refuse": "drop"}, provider="replicate")
    job_id = await system.submit("cancelled unheard of", providers=["replicate", "fal"])
    await until_attempt_is(system, job_id, "ambiguous")
    status, answer = await cancel(system, job_id)
    assert (status, answer["cancel"]["effect"], answer["cost_usd"]) == (200, "never_sent", 0.0)
    assert len((await system.ended(job_id))["attempts"]) == 1, "it did not go on to the next provider"


async def test_a_cancel_is_too_late_if_the_provider_finishes_the_run(system: System) -> None:
    async def one(provider: str) -> None:
        prompt = f"finished all the same at {provider}"
        await system.fault(prompt, {"cancel": "ignored", "run_s": patient(1.5)}, provider=provider)
        job_id = await system.submit(prompt, providers=[provider])
        await until_logged(system, job_id, "running")
        status, answer = await cancel(system, job_id)
        assert (status, answer["status"], answer["cancel"]["effect"]) == (200, "succeeded", "too_late")
        assert "its files are kept" in answer["cancel"]["message"]
        assert (await system.ended(job_id))["cancel"]["effect"] == "too_late"

    await asyncio.gather(*map(one, PROVIDERS))
    await system.until_no_run("finished all the same")


async def test_a_cancel_of_an_ended_job_reports_its_end_and_changes_nothing(system: System) -> None:
    job = await system.ended(await system.submit("ended before"))
    status, answer = await cancel(system, job["id"])
    assert (status, answer["status"], answer["cancel"]["effect"]) == (200, "succeeded", "too_late")
    assert answer["cost_usd"] == job["cost_usd"]
    assert "job.cancel_requested" not in [entry["event"] for entry in await system.log(job["id"])]


async def test_the_command_reports_the_effect_in_its_output_and_its_exit_status(
    system: System, segue: Callable[..., Awaitable[tuple[int, str]]]
) -> None:
    await system.fault("by command", {"never_finish": True})
    stopped, pending = [await system.submit(f"by command {n}", providers=["fal"]) for n in range(2)]
    ended = (await system.ended(await system.submit("one that ends")))["id"]
    for job_id in (stopped, pending):
        await until_logged(system, job_id, "running")
    code, output = await segue("cancel", pending, "--wait", "0")
    assert (code, f"segue logs {pending} --follow" in output) == (4, True)
    code, output = await segue("cancel", stopped)
    assert (code, output.splitlines()[0]) == (0, f"job {stopped}: cancelled (may_have_cost)")
    assert "may be billed for what it had done" in output
    code, output = await segue("cancel", ended)
    assert (code, output.splitlines()[0]) == (3, f"job {ended}: succeeded (too_late)")
    code, output = await segue("cancel", "no-such-job")
    assert (code, "There is no such job" in output) == (1, True)
