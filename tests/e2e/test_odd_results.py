"""Unusual answers that real providers give, compared with the bills: a paid run is not paid for again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Segue, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROVIDERS = ("fal", "replicate")
WAV = "data:audio/wav;base64,UklGRiYAAABXQVZFZm10IBAAAAABAAEAIlYAAESsAAACABAAZGF0YQIAAAAAAA=="

KEPT: dict[str, Mapping[str, Any]] = {
    "the file is there later": {"files": {"not_yet": 2}},
    "the file is promised": {"files": {"not_yet": 1, "status": 202}},
    "the file is forbidden at first": {"files": {"not_yet": 1, "status": 403}},
    "a header of another store": {"files": {"coding": "aws-chunked", "headers": {"content-encoding": "aws-chunked"}}},
    "a header that is not true": {"files": {"headers": {"content-encoding": "gzip"}}},
    "really compressed": {"files": {"coding": "gzip", "headers": {"content-encoding": "gzip"}}},
    "called a page": {"files": {"headers": {"content-type": "text/html"}}},
    "the result is empty at first": {"empty_first": 2},
    "the run is unknown at first": {"unknown_first": 3},
    "a link in a list": {"result": ["{url}"]},
    "a link under a key of its own": {"result": {"song": {"href": "{url}"}}},
    "a link deep down": {"result": {"data": {"tracks": [{"clip": {"audio_url": "{url}"}}]}}},
    "a link with a space before it": {"result": {"audio": {"url": " {url} "}}},
    "a data URL in place of a link": {"result": {"audio": {"url": WAV}}},
    "a data URL under a key": {"result": {"audio": WAV}},
    "logs over the size limit": {"logs_bytes": 17_000_000},
}
"""Forms of a successful run; each has one bill."""

BAD_ANSWERS: dict[str, Mapping[str, Any]] = {
    "a 500 in JSON": {"status": 500, "body": {"detail": "Internal Server Error"}},
    "an empty 504": {"status": 504, "body": ""},
    "a page": {"status": 503, "body": "<html><body>nginx</body></html>", "bare": True},
    "a 405": {"status": 405, "body": {"detail": "Method Not Allowed"}},
    "too early": {"status": 400, "body": {"detail": "Request is not completed yet"}},
}
"""Answers that fal may give for a while when the result of a successful run is fetched."""

OURS: dict[str, tuple[Mapping[str, Any], str]] = {
    "nothing that could be a file": ({"result": {"message": "done"}}, "output_unreadable"),
    "a host that our rules refuse": ({"result": {"audio": {"url": "http://198.18.0.5/a.wav"}}}, "output_refused"),
}
"""Results that need a change in Segue or its settings: the job fails, and the next provider is not paid."""


async def test_an_unusual_output_is_stored_and_paid_for_once(system: System) -> None:
    cases = {f"{oddity}, at {one}": (oddity, one) for oddity in KEPT for one in PROVIDERS}
    for prompt, (oddity, provider) in cases.items():
        await system.fault(prompt, KEPT[oddity], provider=provider)
    order = {"fal": ["fal", "replicate"], "replicate": ["replicate", "fal"]}
    ids = await asyncio.gather(*(system.submit(prompt, providers=order[one]) for prompt, (_, one) in cases.items()))
    jobs = await asyncio.gather(*(system.ended(job_id) for job_id in ids))
    posts = {prompt: len(await system.posts(prompt)) for prompt in cases}
    outcomes = {
        prompt: (job["status"], [a["error_kind"] for a in job["attempts"]])
        for prompt, job in zip(cases, jobs, strict=True)
    }
    assert outcomes == dict.fromkeys(cases, ("succeeded", [None]))
    assert posts == dict.fromkeys(cases, 1)


async def test_a_result_is_fetched_again_after_a_bad_answer(system: System) -> None:
    for name, refusal in BAD_ANSWERS.items():
        await system.fault(f"bad answer: {name}", {"refuse": refusal}, provider="fal", on="result", times=2)
    prompts = [f"bad answer: {name}" for name in BAD_ANSWERS]
    ids = await asyncio.gather(*(system.submit(prompt, providers=["fal", "replicate"]) for prompt in prompts))
    jobs = await asyncio.gather(*(system.ended(job_id) for job_id in ids))
    for prompt, job in zip(prompts, jobs, strict=True):
        posts = [post["provider"] for post in await system.posts(prompt)]
        assert (prompt, job["status"], posts) == (prompt, "succeeded", ["fal"])


async def test_a_result_that_segue_cannot_use_fails_the_job_and_no_other_provider_is_paid(system: System) -> None:
    cases = {f"{oddity}, at {one}": (oddity, one) for oddity in OURS for one in PROVIDERS}
    for prompt, (oddity, provider) in cases.items():
        await system.fault(prompt, OURS[oddity][0], provider=provider)
    order = {"fal": ["fal", "replicate"], "replicate": ["replicate", "fal"]}
    ids = await asyncio.gather(*(system.submit(prompt, providers=order[one]) for prompt, (_, one) in cases.items()))
    jobs = await asyncio.gather(*(system.ended(job_id) for job_id in ids))
    for prompt, job in zip(cases, jobs, strict=True):
        assert (prompt, job["status"], job["error"]["kind"]) == (prompt, "failed", OURS[cases[prompt][0]][1])
        assert len(await system.posts(prompt)) == 1


async def test_a_refused_cancel_is_too_late_and_the_files_are_kept(system: System) -> None:
    for provider in PROVIDERS:
        prompt = f"will not be stopped by {provider}"
        await system.fault(prompt, {"cancel": "refused", "run_s": 3}, provider=provider)
        job_id = await system.submit(prompt, providers=[provider])

        async def accepted(prompt: str = prompt) -> bool:
            return len(await system.posts(prompt)) == 1

        await system.until(f"{provider} has taken it", accepted)
        await system.api.post(f"/api/jobs/{job_id}/cancel")
        job = await system.ended(job_id)
        assert (job["status"], job["attempts"][0]["state"]) == ("succeeded", "succeeded")
        assert (await system.api.post(f"/api/jobs/{job_id}/cancel")).json()["cancel"]["effect"] == "too_late"


@pytest.mark.parametrize("policy", ["retry_elsewhere", "fail"])
async def test_a_lost_output_is_paid_for_again_only_if_the_request_allows_it(system: System, policy: str) -> None:
    prompt = f"its file never comes, {policy}"
    await system.fault(prompt, {"files": "gone"}, provider="fal")
    job_id = await system.submit(prompt, providers=["fal", "replicate"], deadline_s=60, lost_output_policy=policy)
    job = await system.ended(job_id, within_s=120)
    posts = await system.posts(prompt)
    log = "\n".join(entry["message"] for entry in await system.log(job_id))
    if policy == "fail":
        assert (job["status"], job["error"]["kind"], len(posts)) == ("failed", "output_lost", 1)
        return
    assert (job["status"], [a["error_kind"] for a in job["attempts"]]) == ("succeeded", ["output_lost", None])
    assert len(posts) == 2
    assert "the lost output cost $0.20, and replicate makes it again for $0.20" in log


async def test_an_output_that_the_egress_rules_refused_is_fetched_once_they_allow_it(
    system: System, segue: Segue
) -> None:
    prompt = "a file for an operator"
    await system.kill("fal-adapter")
    await system.start("fal-adapter", SEGUE_EGRESS_ALLOW="")
    job = await system.ended(await system.submit(prompt, providers=["fal", "replicate"]))
    assert (job["status"], job["error"]["kind"]) == ("failed", "output_refused")
    assert "SEGUE_EGRESS_ALLOW" not in str(job)
    await system.kill("fal-adapter")
    await system.start("fal-adapter")
    status, output = await segue("attempts", "collect", f"{job['id']}.1")
    assert (status, "its files are kept on the attempt" in output) == (0, True), output
    assert len(await system.posts(prompt)) == 1
    assert (await system.job(job["id"]))["status"] == "failed"


async def test_collect_reports_a_result_that_still_cannot_be_read(system: System, segue: Segue) -> None:
    prompt = "a result for an operator"
    await system.fault(prompt, {"result": {"message": "done"}}, provider="fal")
    job = await system.ended(await system.submit(prompt, providers=["fal"]))
    status, output = await segue("attempts", "collect", f"{job['id']}.1", "--wait", "2")
    assert (status, "Its files are not stored" in output) == (4, True), output
