"""Faults of providers and their cost: no run is paid for twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import patient

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROVIDERS = ("fal", "replicate")
LOST_ANSWERS: dict[str, dict[str, Any]] = {
    "hang": {"accept_then": "hang"},
    "drop": {"accept_then": "drop"},
    "502": {"accept_then": "502"},
    "slow": {"delay_s": patient(4)},
    "garbled": {"accept_then": "malformed_json"},
}


async def events(system: System, job_id: str) -> list[str]:
    return [entry["event"] for entry in await system.log(job_id)]


async def test_a_lost_answer_is_looked_up_and_never_submitted_again(system: System) -> None:
    cases = {f"lost {how} at {one}": (how, one) for how in LOST_ANSWERS for one in PROVIDERS}
    for prompt, (how, provider) in cases.items():
        await system.fault(prompt, LOST_ANSWERS[how], provider=provider)
    ids = await asyncio.gather(*(system.submit(prompt, providers=[one]) for prompt, (_, one) in cases.items()))
    jobs = await asyncio.gather(*(system.ended(job_id) for job_id in ids))
    for prompt, job in zip(cases, jobs, strict=True):
        (post,) = await system.posts(prompt)
        (attempt,) = job["attempts"]
        assert (prompt, job["status"], attempt["provider_ref"]) == (prompt, "succeeded", post["request_id"])
        assert "attempt.ambiguous" in await events(system, job["id"])


async def test_an_adapter_that_dies_before_the_answer_finds_the_run(system: System) -> None:
    jobs = {}
    for provider in PROVIDERS:
        prompt = f"died waiting for {provider}"
        await system.fault(prompt, {"accept_then": "hang"}, provider=provider)
        jobs[prompt] = await system.submit(prompt, providers=[provider])

    async def accepted() -> bool:
        return len(await system.posts("died waiting for")) == 2

    await system.until("both providers have accepted", accepted)
    adapters = [f"{provider}-adapter" for provider in PROVIDERS]
    await system.kill(*adapters)
    await system.start(*adapters)
    for prompt, job_id in jobs.items():
        job = await system.ended(job_id)
        (post,) = await system.posts(prompt)
        assert (job["status"], [each["provider_ref"] for each in job["attempts"]]) == (
            "succeeded", [post["request_id"]],
        )  # fmt: skip
        assert "attempt.ambiguous" in await events(system, job_id)
    await system.until_idle()


async def test_a_submit_that_the_provider_never_received_moves_on_after_its_grace(system: System) -> None:
    await system.fault("never heard of", {"refuse": "drop"}, provider="replicate")
    job = await system.ended(await system.submit("never heard of", providers=["replicate", "fal"]))
    assert [(each["provider"], each["error_kind"]) for each in job["attempts"]] == [
        ("replicate", "never_accepted"), ("fal", None),
    ]  # fmt: skip
    await system.assert_paid_once([job], "never heard of")


async def test_a_job_that_both_providers_refuse_lists_every_reason(system: System) -> None:
    await system.fault("nobody wants it", {"refuse": "balance"}, provider="fal")
    await system.fault("nobody wants it", {"refuse": "unauthorized"}, provider="replicate")
    job = await system.ended(await system.submit("nobody wants it"))
    assert (job["status"], job["error"]["kind"], job["cost_usd"]) == ("failed", "no_route", 0.0)
    assert [(each["provider"], each["kind"]) for each in job["error"]["attempts"]] == [
        ("fal", "insufficient_balance"), ("replicate", "unauthorized"),
    ]  # fmt: skip
    assert "Exhausted balance" in job["error"]["message"]
    assert "valid authentication token" in job["error"]["message"]
    assert not any(post["accepted"] for post in await system.posts("nobody wants it"))


async def test_a_callers_mistake_is_not_sent_to_the_next_provider(system: System) -> None:
    for provider in PROVIDERS:
        prompt = f"forbidden by {provider}"
        await system.fault(prompt, {"refuse": "content_policy"}, provider=provider)
        others = [one for one in PROVIDERS if one != provider]
        job = await system.ended(await system.submit(prompt, providers=[provider, *others]))
        assert (job["status"], job["error"]["kind"]) == ("failed", "content_policy")
        assert [post["provider"] for post in await system.posts(prompt)] == [provider]


async def test_throttling_delays_a_job_and_uses_up_no_attempt(system: System) -> None:
    jobs = {}
    for provider in PROVIDERS:
        prompt = f"throttled by {provider}"
        await system.fault(prompt, {"refuse": "rate_limited"}, provider=provider, times=1)
        jobs[prompt] = await system.submit(prompt, providers=[provider])
    for prompt, job_id in jobs.items():
        job = await system.ended(job_id)
        assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
        refused, accepted = await system.posts(prompt)
        assert (refused["status"], accepted["accepted"]) == (429, True)
        assert accepted["at"] - refused["at"] >= 2  # Retry-After


async def test_a_run_that_never_starts_or_never_ends_is_stopped_and_the_job_moves_on(system: System) -> None:
    cases: dict[str, dict[str, Any]] = {
        "never starts": {"action": {"stuck_queue": True}, "kind": "start_timeout"},
        "never ends": {"action": {"never_finish": True}, "kind": "run_timeout", "model": "music/lyria-2"},
    }
    ids: dict[tuple[str, str], str] = {}
    for what, case in cases.items():
        for first, second in (PROVIDERS, PROVIDERS[::-1]):
            prompt = f"{what} at {first}"
            await system.fault(prompt, case["action"], provider=first)
            more = {"model": case["model"]} if "model" in case else {}
            ids[prompt, case["kind"]] = await system.submit(prompt, providers=[first, second], **more)
    for (prompt, kind), job_id in ids.items():
        job = await system.ended(job_id)
        stopped, made = job["attempts"]
        assert (prompt, job["status"], stopped["error_kind"], made["state"]) == (prompt, "succeeded", kind, "succeeded")
        await system.assert_paid_once([job], prompt)
    await system.until_no_run("never ")


async def test_a_job_past_its_deadline_is_stopped_at_the_provider_too(system: System) -> None:
    await system.fault("too late", {"never_finish": True})
    job = await system.ended(await system.submit("too late", deadline_s=patient(3)))
    assert (job["status"], job["error"]["kind"], len(job["attempts"])) == ("failed", "expired", 1)
    await system.until_no_run("too late")


async def test_music_provider_sets_the_first_provider(system: System) -> None:
    both = ("gateway", "orchestrator")
    await system.kill(*both)
    await system.start(*both, MUSIC_PROVIDER="replicate")
    try:
        job = await system.ended(await system.submit("replicate first"))
        assert (job["status"], [each["provider"] for each in job["attempts"]]) == ("succeeded", ["replicate"])
    finally:
        await system.kill(*both)
        await system.start(*both)
