"""The first request of the README, from the POST to the stored file, and invalid forms of it."""

from __future__ import annotations

import hashlib
import io
import wave
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.patience import patient

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEED: dict[str, Any] = {"prompt": "Warm ambient pad", "duration_s": 20, "has_vocals": False, "style_strength": 0.5}
STORY = [
    ("job.requested", None),
    ("job.accepted", None),
    ("attempt.submitting", 1),
    ("attempt.failed", 1),
    ("job.rerouted", 2),
    ("attempt.submitting", 2),
    ("attempt.submitted", 2),
    ("job.started", 2),
    ("attempt.succeeded", 2),
    ("job.succeeded", 2),
]


async def test_replicate_makes_what_fal_refused_for_lack_of_balance(system: System) -> None:
    await system.fault(SEED["prompt"], {"refuse": "balance"}, provider="fal")
    accepted = await system.api.post("/api/tracks", json=SEED, headers={"Idempotency-Key": "the first"})
    assert accepted.status_code == 202
    job_id = accepted.json()["job_id"]
    assert (await system.api.get(f"/api/jobs/{job_id}")).status_code == 200  # at once

    job = await system.ended(job_id)
    assert (job["status"], job["provider"], job["error"]) == ("succeeded", "replicate", None)
    refused, made = job["attempts"]
    assert (refused["provider"], refused["state"], refused["error_kind"], refused["cost_usd"]) == (
        "fal", "failed", "insufficient_balance", 0.0,
    )  # fmt: skip
    assert "Exhausted balance" in refused["message"]
    assert (made["provider"], made["state"]) == ("replicate", "succeeded")

    await _assert_log_is_complete(system, job_id)
    await _assert_bills(system, made["provider_ref"])
    await _assert_file_is_stored(system, job)
    await _assert_repeat_is_the_same_job(system, accepted)


async def _assert_log_is_complete(system: System, job_id: str) -> None:
    async def complete() -> list[dict[str, Any]]:
        log = await system.log(job_id)
        return log if {(entry["event"], entry["attempt"]) for entry in log} >= set(STORY) else []

    log = await system.until("the log is complete", complete)
    assert [entry["time"] for entry in log] == sorted(entry["time"] for entry in log)
    story = [(entry["event"], entry["attempt"]) for entry in log if entry["event"] != "attempt.progressed"]
    # The order of the events of a job and of its attempt is not defined.
    assert sorted(story, key=str) == sorted(STORY, key=str)
    assert story[:6] == STORY[:6]
    assert {entry["job_id"] for entry in log} == {job_id}
    (failed,) = [entry for entry in log if entry["event"] == "attempt.failed"]
    assert (failed["provider"], failed["error_code"]) == ("fal", "insufficient_balance")


async def _assert_bills(system: System, ref: str) -> None:
    fal, replicate = await system.posts(SEED["prompt"])
    assert (fal["provider"], fal["accepted"], fal["status"]) == ("fal", False, 403)
    assert (replicate["provider"], replicate["accepted"], replicate["request_id"]) == ("replicate", True, ref)


async def _assert_file_is_stored(system: System, job: dict[str, Any]) -> None:
    (artifact,) = job["artifacts"]
    file = await system.api.get(artifact["url"])
    assert hashlib.sha256(file.content).hexdigest() == artifact["sha256"]
    assert len(file.content) == artifact["size_bytes"]
    with wave.open(io.BytesIO(file.content)) as audio:
        assert audio.getnframes() / audio.getframerate() == pytest.approx(20, abs=0.5)
    track = (await system.api.get(f"/api/tracks/{job['track_id']}")).json()
    assert (track["status"], track["provider"], track["audio_url"]) == ("succeeded", "replicate", artifact["url"])


async def _assert_repeat_is_the_same_job(system: System, accepted: httpx.Response) -> None:
    headers = {"Idempotency-Key": "the first"}
    again = await system.api.post("/api/tracks", json={**SEED, "duration_s": 20.0}, headers=headers)
    assert (again.status_code, again.json()) == (202, accepted.json())
    other = await system.api.post("/api/tracks", json={**SEED, "duration_s": 21}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "urn:segue:problem:idempotency-key-reused")
    assert len(await system.posts(SEED["prompt"])) == 2


async def test_an_invalid_request_reaches_no_topic(system: System) -> None:
    before = await system.end_offsets("segue.requests")
    large = await system.api.post("/api/tracks", json={**SEED, "prompt": "x" * (3 << 20)})
    assert (large.status_code, large.json()["type"]) == (413, "urn:segue:problem:body-too-large")
    unknown = await system.api.post("/api/tracks", json={**SEED, "model": "music/nobody-has-it"})
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "model")
    wrong = await system.api.post("/api/tracks", json={**SEED, "style_strength": 2})
    assert (wrong.status_code, wrong.json()["errors"][0]["limit"]) == (422, {"le": 1.0})
    assert await system.end_offsets("segue.requests") == before


async def test_each_request_has_a_trace_of_its_own_whatever_came_before_it_on_its_connection(system: System) -> None:
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(base_url=system.api.base_url, limits=limits, timeout=patient(60)) as one:
        await one.post("/api/tracks", content=b"x" * (200 << 10), headers={"Content-Type": "application/json"})
        answers = [await one.post("/api/tracks", json=SEED, headers={"Idempotency-Key": f"n {n}"}) for n in range(3)]
    assert len({answer.json()["trace_id"] for answer in answers}) == 3


async def test_both_providers_are_reported_as_healthy(system: System) -> None:
    async def healthy() -> bool:
        health = (await system.api.get("/api/health/providers")).json()
        return bool(health == {"fal": "ok", "replicate": "ok", "fal_error": None, "replicate_error": None})

    await system.until("both providers are healthy", healthy)
