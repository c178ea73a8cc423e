"""The API on a real Kafka and a real PostgreSQL, as clients see it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaProducer
from structlog.testing import capture_logs
from tests.builders import job_requested
from tests.patience import patient

from chassis.artifact_keys import artifact_key
from chassis.http.server import serve_http
from chassis.postgres.pool import open_pool
from contracts.envelope import Envelope, encode
from contracts.ids import job_id_for, track_id_for
from contracts.messages.requests import JobRequested
from gateway.app import api
from gateway.context import TENANT
from gateway.queries import lookup
from gateway.queries.tail import JobTail

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEED = {"prompt": "Warm ambient pad"}
PROBLEM = "application/problem+json"


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    answer_body: dict[str, Any] = response.json()
    assert answer_body["type"] == f"urn:segue:problem:{kind}"
    assert answer_body["status"] == status
    return answer_body


async def test_a_request_is_found_right_after_its_202(world: Any) -> None:
    response = await world.post()
    assert response.status_code == 202
    answer_body = response.json()
    assert response.headers["location"] == answer_body["links"]["job"] == f"/api/jobs/{answer_body['job_id']}"
    job = (await world.client.get(answer_body["links"]["job"])).json()
    assert (job["id"], job["status"], job["attempts"], job["stale"]) == (answer_body["job_id"], "queued", [], False)
    assert job["trace_id"] == answer_body["trace_id"]
    track = (await world.client.get(answer_body["links"]["track"])).json()
    assert (track["id"], track["status"], track["audio_url"]) == (answer_body["track_id"], "queued", None)
    log = (await world.client.get(answer_body["links"]["logs"])).json()["entries"]
    assert [(entry["event"], entry["track_id"]) for entry in log] == [("job.requested", answer_body["track_id"])]
    listed = (await world.client.get("/api/jobs")).json()["jobs"]
    assert answer_body["job_id"] in [each["id"] for each in listed]
    assert answer_body["track_id"] in [each["id"] for each in (await world.client.get("/api/tracks")).json()["tracks"]]


async def test_another_replica_finds_the_job_too(world: Any, world_on: Any, until: Any, tmp_path: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    servers = world.parts.settings.kafka_bootstrap_servers
    async with world_on(servers, world.database_url, tmp_path) as other:

        async def found() -> bool:
            return bool((await other.client.get(f"/api/jobs/{job_id}")).status_code == 200)

        async def ready() -> bool:
            return bool((await other.client.get("/readyz")).is_success)

        await until(found)
        await until(ready)
        for _ in range(20):
            answer_body = (await world.post()).json()
            assert (await other.client.get(answer_body["links"]["job"])).status_code == 200
            answer_body = (await world.post()).json()
            assert (await other.client.get(answer_body["links"]["track"])).status_code == 200


async def test_the_same_key_and_body_get_the_same_answer(world: Any) -> None:
    first = await world.post(idempotency_key="the same")
    spelled_otherwise = {"style_strength": 0.5, "has_vocals": False, "duration_s": 20.0, "prompt": "Warm ambient pad"}
    again = await world.post(spelled_otherwise, idempotency_key="the same")
    assert again.status_code == 202
    assert again.content == first.content
    assert first.json()["job_id"] == job_id_for(TENANT, "the same")


async def test_concurrent_requests_with_one_key_make_one_job(world: Any) -> None:
    answers = await asyncio.gather(*(world.post(idempotency_key="at once") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1


async def test_a_used_key_with_another_body_is_refused(world: Any) -> None:
    await world.post(idempotency_key="used")
    problem(await world.post({"prompt": "another"}, idempotency_key="used"), 422, "idempotency-key-reused")


async def test_a_replica_with_an_empty_tail_gives_the_same_answer(world: Any) -> None:
    first = await world.post(idempotency_key="forgotten")
    world.empty_tail()
    assert (await world.post(idempotency_key="forgotten")).content == first.content
    world.empty_tail()
    problem(await world.post({"prompt": "another"}, idempotency_key="forgotten"), 422, "idempotency-key-reused")


async def test_each_request_without_a_key_makes_a_job(world: Any) -> None:
    first, second = await world.post(), await world.post()
    assert first.json()["job_id"] != second.json()["job_id"]
    key = first.headers["idempotency-key"]
    assert (await world.post(idempotency_key=key)).content == first.content


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"])
async def test_an_invalid_key_is_refused(world: Any, key: str) -> None:
    headers = {"idempotency-key": key.encode("latin-1")}
    response = await world.client.post("/api/tracks", json={"prompt": "x"}, headers=headers)
    problem(response, 400, "invalid-idempotency-key")


async def test_two_keys_are_refused(world: Any) -> None:
    headers = [("idempotency-key", "a"), ("idempotency-key", "b")]
    response = await world.client.post("/api/tracks", json={"prompt": "x"}, headers=headers)
    problem(response, 400, "invalid-idempotency-key")


async def test_a_job_follows_its_messages(world: Any, story_of: Any, until: Any) -> None:
    answer_body = (await world.post()).json()
    story = story_of(answer_body["job_id"])
    for message, status, provider in (
        (story.accepted(), "queued", "fal"),
        (story.rerouted(), "queued", "replicate"),
        (story.started(), "running", "replicate"),
        (story.succeeded(), "succeeded", "replicate"),
    ):
        await world.publish(message)

        async def shown(status: str = status, provider: str = provider) -> bool:
            job = (await world.client.get(answer_body["links"]["job"])).json()
            return bool((job["status"], job["provider"]) == (status, provider))

        await until(shown)
    track = (await world.client.get(answer_body["links"]["track"])).json()
    assert track["audio_url"] == f"/api/jobs/{answer_body['job_id']}/artifacts/track.mp3"
    assert (track["provider"], track["model"], track["duration_s"]) == ("replicate", "music/minimax-2", 20.1)


async def test_undecodable_records_do_not_stop_the_tail(world: Any, story_of: Any, until: Any) -> None:
    story = story_of((await world.post()).json()["job_id"])
    good = encode(story.accepted(), source="test", traceparent=None)
    producer = AIOKafkaProducer(bootstrap_servers=world.parts.settings.kafka_bootstrap_servers)
    await producer.start()
    try:
        for topic in ("segue.requests", "segue.jobs"):
            for value, headers in (
                (b"\xff\x00", [("ce_type", b"\xff")]),
                (None, None),
                (b"{}", [("ce_type", b"segue.job.accepted.v1"), ("ce_id", b"1")]),
                (b"{}", [("ce_type", b"segue.job.accepted.v9"), ("ce_id", b"1")]),
                (b"{}", [("ce_type", b"segue.job.renamed.v1"), ("ce_id", b"1")]),
            ):
                await producer.send_and_wait(topic, value, key=good.key, headers=headers)
    finally:
        await producer.stop()
    await world.publish(story.accepted())

    async def shown() -> bool:
        return bool((await world.client.get(f"/api/jobs/{story.job_id}")).json()["provider"] == "fal")

    await until(shown)


async def test_a_job_that_the_tail_has_dropped_is_read_from_the_read_model(world: Any, story_of: Any) -> None:
    answer_body = (await world.post()).json()
    job_id = answer_body["job_id"]
    story = story_of(job_id)
    await world.store(*story.jobs()[:2], *story.attempts()[:2], story.started())
    await world.publish(story.accepted())
    job = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert job["status"] == "running"
    assert [(a["attempt"], a["state"], a["provider_ref"], a["error_code"]) for a in job["attempts"]] == [
        (1, "failed", None, "403"),
        (2, "running", "r8-1", None),
    ]
    world.empty_tail()
    await world.store(story.attempts()[2], story.succeeded())
    job = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert job["status"] == "succeeded"
    assert job["artifacts"][0]["sha256"] == "b" * 64
    log = (await world.client.get(f"/api/jobs/{job_id}/logs")).json()["entries"]
    assert [(e["event"], e["attempt"]) for e in log if e["event"].startswith("attempt.")] == [
        ("attempt.failed", 1),
        ("attempt.submitted", 2),
        ("attempt.succeeded", 2),
    ]
    track = (await world.client.get(f"/api/tracks/{track_id_for(story.job_id)}")).json()
    assert track["provider"] == "replicate"


async def test_a_failed_job_tells_every_attempts_reason(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.store(story.accepted(), story.attempts()[0], story.failed())
    error = (await world.client.get(f"/api/jobs/{job_id}")).json()["error"]
    assert (error["kind"], error["message"]) == ("no_route", "nobody could make it")
    assert error["attempts"] == [
        {
            "attempt": 1,
            "provider": "fal",
            "kind": "insufficient_balance",
            "error_code": "403",
            "message": "User is locked.",
        }
    ]
    lines = (await world.client.get(f"/api/jobs/{job_id}/logs")).json()["entries"]
    message_of = {line["event"]: line["message"] for line in lines}
    assert message_of["attempt.failed"] == "User is locked. It cost nothing."
    assert message_of["job.failed"] == "nobody could make it; nothing was paid"


@pytest.fixture(params=[0, lookup.SPARE], ids=lambda spare: f"spare {spare}")
def _spare_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "SPARE", request.param)


@pytest.mark.usefixtures("_spare_rows")
async def test_lists_have_pages_and_filters(world: Any, story_of: Any) -> None:
    ids = [(await world.post()).json()["job_id"] for _ in range(5)]
    await world.store(story_of(ids[2]).accepted(), story_of(ids[2]).started())
    # Their events are stored, and dated later, than the request that the tail knows.
    await world.store(story_of(ids[0]).accepted())
    seen = await _all_pages(world, {"limit": "2"})
    assert [job_id for job_id in seen if job_id in ids] == ids[::-1]
    assert len(seen) == len(set(seen))
    filtered = (await world.client.get("/api/jobs", params={"status": "running", "provider": "replicate"})).json()
    assert ids[2] in [job["id"] for job in filtered["jobs"]]
    assert {job["status"] for job in filtered["jobs"]} == {"running"}
    assert (await world.client.get("/api/jobs", params={"model": "music/none"})).json()["jobs"] == []


@pytest.mark.usefixtures("_spare_rows")
@pytest.mark.parametrize("oldest", ["stored", "in both"])
async def test_a_filtered_list_is_complete_while_its_jobs_end(
    world: Any, story_of: Any, until: Any, oldest: str
) -> None:
    stories = [story_of(job_id_for(TENANT, f"ends while listed {n}, {oldest}, {lookup.SPARE}")) for n in range(5)]
    for story in stories:
        await world.store(story.accepted(), story.started())
    await world.publish(stories[-1].accepted(), stories[-1].succeeded())
    tailed = {stories[-1].job_id: "succeeded"}
    if oldest == "in both":
        await world.publish(stories[0].accepted(), stories[0].started())
        tailed[stories[0].job_id] = "running"

    async def known() -> bool:
        jobs = {job_id: world.parts.tail.known(job_id).job for job_id in tailed}
        return {job_id: job and job.status for job_id, job in jobs.items()} == tailed

    await until(known)
    ids = [story.job_id for story in stories]
    seen = await _all_pages(world, {"limit": "2", "status": "running"})
    assert [job_id for job_id in seen if job_id in ids] == ids[3::-1]


async def test_an_old_job_with_a_new_event_is_listed_once_and_in_its_place(
    world: Any, story_of: Any, until: Any
) -> None:
    story = story_of(job_id_for(TENANT, "an old job with a new event"))
    asked = job_requested(story.job_id, story.begin - timedelta(days=1), model="music/minimax-2")
    await world.store(asked, story.accepted())
    # The tail begins after the request, as after a start of the gateway.
    await world.publish(story.started())

    async def known() -> bool:
        job = world.parts.tail.known(story.job_id).job
        return job is not None and job.status == "running"

    await until(known)
    for path, job_id in (("jobs", story.job_id), ("tracks", track_id_for(story.job_id))):
        top = (await world.client.get(f"/api/{path}", params={"limit": "1"})).json()[path]
        assert [each["id"] for each in top] != [job_id]
    seen = await _all_pages(world, {"limit": "100"})
    assert seen.count(story.job_id) == 1
    running = (await world.client.get("/api/jobs", params={"status": "running", "limit": "100"})).json()["jobs"]
    assert story.job_id not in [each["id"] for each in running], "not before the read model has it"


async def _all_pages(world: Any, asked: dict[str, str]) -> list[str]:
    """The ids of all jobs that a client sees that follows next_cursor to the end."""
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await world.client.get("/api/jobs", params=asked | ({"cursor": cursor} if cursor else {}))).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
    return seen


EARLY = "cursor=MDAwMS0wMS0wMVQwMDowMDowMCsyMzo1OXwwMTg5MGE1ZC1hYzk2LTc3NGItYmNjZS1iMzAyMDk5YTgwNTc"
"""A cursor whose time is before the year 1 in UTC."""


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "status=done", "cursor=%00", "cursor=bm90", EARLY, "model=%00"]
)
async def test_an_invalid_query_is_a_422(world: Any, query: str) -> None:
    answer_body = problem(await world.client.get(f"/api/jobs?{query}"), 422, "invalid-request")
    assert answer_body["errors"][0]["field"] == query.partition("=")[0]


async def _waiting(world: Any, count: int) -> bool:
    return bool(world.parts.completion.waiters.now == count)


async def test_a_client_may_wait_for_the_end(world: Any, story_of: Any, until: Any) -> None:
    waiting = asyncio.create_task(world.post(idempotency_key="patient", prefer="respond-async, wait=20"))
    story = story_of(job_id_for(TENANT, "patient"))
    await until(partial(_waiting, world, 1))
    await world.publish(*story.jobs())
    response = await asyncio.wait_for(waiting, patient(60))
    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    assert response.headers["preference-applied"] == "wait=20"


async def test_a_job_may_be_waited_for_later(world: Any, story_of: Any, until: Any) -> None:
    url = f"/api/jobs/{(await world.post(idempotency_key='later')).json()['job_id']}"
    # Another form of the header, which asks for no wait.
    assert "preference-applied" not in (await world.client.get(url, headers={"Prefer": "respond-async"})).headers
    waiting = asyncio.create_task(world.client.get(url, headers={"Prefer": "wait=60"}))
    await until(partial(_waiting, world, 1))
    await world.publish(*story_of(job_id_for(TENANT, "later")).jobs())
    response = await asyncio.wait_for(waiting, patient(60))
    assert (response.json()["status"], response.headers["preference-applied"]) == ("succeeded", "wait=60")
    unknown = await world.client.get(f"/api/jobs/{job_id_for(TENANT, 'unknown')}", headers={"Prefer": "wait=60"})
    assert unknown.status_code == 404


async def test_waiting_ends_after_the_requested_time(world: Any) -> None:
    before = time.monotonic()
    response = await world.post(prefer="wait=1")
    assert response.status_code == 202
    url = f"/api/jobs/{response.json()['job_id']}"
    again = await world.client.get(url, headers={"Prefer": "wait=1"})
    assert (again.json()["status"], again.headers["preference-applied"]) == ("queued", "wait=1")
    assert 1.8 < time.monotonic() - before < patient(8)


async def test_the_number_of_waiting_requests_is_limited_and_others_are_answered_at_once(
    world: Any, story_of: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiters = world.parts.completion.waiters
    monkeypatch.setattr(waiters, "most", 2)
    first = [asyncio.create_task(world.post(idempotency_key="crowded", prefer="wait=60")) for _ in range(2)]
    await until(partial(_waiting, world, 2))
    repeats = await asyncio.gather(*(world.post(idempotency_key="crowded", prefer="wait=60") for _ in range(5)))
    assert {response.status_code for response in repeats} == {202}
    assert not any("preference-applied" in response.headers for response in repeats)
    job_id = job_id_for(TENANT, "crowded")
    cancelled = await world.client.post(f"/api/jobs/{job_id}/cancel", headers={"Prefer": "wait=60"})
    assert cancelled.status_code == 202
    assert "preference-applied" not in cancelled.headers
    await world.publish(*story_of(job_id).jobs())
    assert [(await asyncio.wait_for(each, patient(60))).status_code for each in first] == [200, 200]
    assert waiters.now == 0
    monkeypatch.setattr(waiters, "most", 0)
    over = await world.post(idempotency_key="crowded", prefer="wait=60")
    assert (over.status_code, over.headers["preference-applied"]) == (200, "wait=60")


async def test_waiting_ends_when_the_client_disconnects(world: Any, until: Any) -> None:
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve_http(api(world.parts), "127.0.0.1", 0))
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=patient(60)))
        url, prefer = f"http://127.0.0.1:{port}/api", {"Prefer": "wait=60"}
        job_id = (await client.post(f"{url}/tracks", json=SEED)).json()["job_id"]
        asking = [
            asyncio.create_task(client.post(f"{url}/tracks", json=SEED, headers=prefer)),
            asyncio.create_task(client.post(f"{url}/jobs/{job_id}/cancel", content=b"x", headers=prefer)),
            asyncio.create_task(client.get(f"{url}/jobs/{job_id}", headers=prefer)),
        ]
        await until(partial(_waiting, world, 3))
        for each in asking:
            each.cancel()
        await until(partial(_waiting, world, 0))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/jobs/nope", "job-not-found"),
        (f"/api/jobs/{job_id_for('other', 'x')}", "job-not-found"),
        (f"/api/jobs/{job_id_for('other', 'x')}/logs", "job-not-found"),
        (f"/api/tracks/{job_id_for('other', 'x')}", "track-not-found"),
        ("/api/tracks/%00", "track-not-found"),
        ("/api/nothing", "not-found"),
        ("/", "not-found"),
    ],
)
async def test_an_unknown_resource_is_a_404(world: Any, path: str, kind: str) -> None:
    problem(await world.client.get(path), 404, kind)


async def test_an_unsupported_method_is_a_405(world: Any) -> None:
    problem(await world.client.delete("/api/jobs"), 405, "method-not-allowed")


async def test_an_internal_error_is_logged_and_not_shown(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(type(world.parts.lookup), "job", broken)
    with capture_logs() as logged:
        answer_body = problem(await world.client.get("/api/jobs/x"), 500, "internal-error")
    assert [(line["log_level"], str(line.get("exc_info"))) for line in logged] == [
        ("error", "password=hunter2"),
        ("info", "None"),  # The access line.
    ]
    assert "hunter2" not in json.dumps(answer_body)


async def test_an_internal_error_of_a_request_for_music_is_logged_and_not_shown(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(type(world.parts.publisher), "publish_and_tail", broken)
    with capture_logs() as logged:
        answer_body = problem(await world.post(), 500, "internal-error")
    assert [(line["log_level"], line.get("route")) for line in logged] == [("error", None), ("info", "/api/tracks")]
    assert "hunter2" not in json.dumps(answer_body)


async def test_files_are_served_from_the_store(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    body = b"0123456789"

    async def chunks() -> Any:
        yield body

    url = f"/api/jobs/{job_id}/artifacts/track.mp3"
    await world.store(story.accepted(), *story.attempts())
    problem(await world.client.get(url), 404, "artifact-not-found")
    await world.store(story.succeeded())
    problem(await world.client.get(url), 404, "artifact-not-found")
    key = artifact_key(story.attempt(2), "track.mp3")
    stored = await world.parts.store.put_file(chunks(), key, content_type="audio/mpeg")
    assert (stored.size_bytes, stored.sha256) == (10, hashlib.sha256(body).hexdigest())

    whole = await world.client.get(url)
    assert (whole.status_code, whole.content) == (200, body)
    assert whole.headers["content-type"] == "audio/mpeg"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-disposition"] == 'inline; filename="track.mp3"'
    etag = whole.headers["etag"]
    assert etag == f'"{"b" * 64}"'
    part = await world.client.get(url, headers={"range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert (await world.client.get(url, headers={"if-none-match": etag})).status_code == 304
    problem(await world.client.get(url, headers={"range": "bytes=10-"}), 416, "range-not-satisfiable")
    problem(await world.client.get(f"/api/jobs/{job_id}/artifacts/..%2fetc"), 404, "not-found")


async def test_head_of_a_file_has_its_headers_without_its_body(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)

    async def chunks() -> Any:
        yield b"0123456789"

    await world.store(story.accepted(), *story.attempts(), story.succeeded())
    url = f"/api/jobs/{job_id}/artifacts/track.mp3"
    assert (await world.client.head(url)).status_code == 404
    await world.parts.store.put_file(chunks(), artifact_key(story.attempt(2), "track.mp3"), content_type="audio/mpeg")
    whole, head = await world.client.get(url), await world.client.head(url, headers={"range": "bytes=2-4"})
    assert (head.status_code, head.content) == (200, b"")
    assert dict(head.headers) == dict(whole.headers)
    unchanged = await world.client.head(url, headers={"if-none-match": whole.headers["etag"]})
    assert unchanged.status_code == 304
    assert (await world.client.head(f"/api/jobs/{job_id}/artifacts/other.mp3")).status_code == 404


async def test_conditional_and_range_requests_of_a_file_work_in_every_spelling(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)

    async def chunks() -> Any:
        yield b"0123456789"

    await world.store(story.accepted(), *story.attempts(), story.succeeded())
    await world.parts.store.put_file(chunks(), artifact_key(story.attempt(2), "track.mp3"), content_type="audio/mpeg")
    url, etag = f"/api/jobs/{job_id}/artifacts/track.mp3", f'"{"b" * 64}"'
    for condition in (etag, f"W/{etag}", f'"x", W/{etag}', "*"):
        for method in ("GET", "HEAD"):
            answer = await world.client.request(method, url, headers={"if-none-match": condition})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
            assert "immutable" in answer.headers["cache-control"]
    for condition, status in ((etag, 200), ("*", 200), (f'"x", {etag}', 200), (f"W/{etag}", 412), ('"x"', 412)):
        answer = await world.client.get(url, headers={"if-match": condition})
        assert answer.status_code == status
        assert (await world.client.head(url, headers={"if-match": condition})).status_code == status
    problem(answer, 412, "precondition-failed")
    for wanted, content in (("BYTES=0-3", b"0123"), ("Bytes=-2", b"89"), ("bytes=,5-,", b"56789")):
        part = await world.client.get(url, headers={"range": wanted, "if-range": etag})
        assert (part.status_code, part.content) == (206, content)
    for wanted, only_of in (
        ("bytes=0-1, 4-5", etag),
        ("bytes=0-1", f"W/{etag}"),
        ("bytes=0-1", '"x"'),
        ("lines=1", etag),
    ):
        whole = await world.client.get(url, headers={"range": wanted, "if-range": only_of})
        assert (whole.status_code, whole.content) == (200, b"0123456789")
    for wanted in ("BYTES=10-", "bytes=10-12, 20-", "bytes=-0"):
        answer = await world.client.get(url, headers={"range": wanted})
        problem(answer, 416, "range-not-satisfiable")
        assert answer.headers["content-range"] == "bytes */10"


async def test_the_docs_pages_support_conditional_requests(world: Any) -> None:
    for path in ("/docs", "/docs/assets/docs.js"):
        page = await world.client.get(path)
        etag = page.headers["etag"]
        for condition in (etag, f'"x", W/{etag}', "*"):
            answer = await world.client.get(path, headers={"if-none-match": condition})
            assert (answer.status_code, answer.content) == (304, b"")
        problem(await world.client.get(path, headers={"if-match": '"x"'}), 412, "precondition-failed")
        for wanted in ("bytes=0-3", "lines=1", "bytes=99999999-", "BYTES=x"):
            whole = await world.client.get(path, headers={"range": wanted})
            assert (whole.status_code, whole.content) == (200, page.content)
    assert "default-src" in (await world.client.get("/docs")).headers["content-security-policy"]


async def test_an_expired_file_is_a_410_and_its_job_still_lists_it(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.store(story.accepted(), *story.attempts(), story.succeeded())
    job = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert job["artifacts"][0]["expired_at"] is None
    async with open_pool(world.database_url, "log_sink", max_size=1) as pool:
        expired = "UPDATE artifacts SET expired_at = '2026-03-12T10:00:00.25Z', kept_days = 30 WHERE job_id = $1"
        await pool.execute(expired, job_id)

    url = f"/api/jobs/{job_id}/artifacts/track.mp3"
    answer_body = problem(await world.client.get(url), 410, "artifact-expired")
    assert (answer_body["expired_at"], answer_body["kept_days"]) == ("2026-03-12T10:00:00.250000Z", 30)
    assert "2026-03-12T10:00:00Z" in answer_body["detail"]
    assert "kept for 30 d " in answer_body["detail"]
    assert "SEGUE_ARTIFACT_RETENTION_DAYS" in answer_body["detail"]
    assert (await world.client.head(url)).status_code == 410
    job = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert job["artifacts"][0]["expired_at"] == "2026-03-12T10:00:00.250000Z"
    for track in (
        (await world.client.get(f"/api/tracks/{job['track_id']}")).json(),
        (await world.client.get("/api/tracks?limit=1")).json()["tracks"][0],
    ):
        assert (track["id"], track["audio_expired_at"]) == (job["track_id"], "2026-03-12T10:00:00.250000Z")


async def test_a_late_file_is_shown_with_its_attempt_and_not_with_the_job(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.store(story.accepted(), story.failed(), *story.attempts())
    job = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert (job["status"], job["artifacts"]) == ("failed", [])
    [late] = job["attempts"][1]["late_artifacts"]
    assert late["url"] == f"/api/jobs/{job_id}/artifacts/track.mp3?attempt=2"

    async def chunks() -> Any:
        yield b"0123456789"

    await world.parts.store.put_file(chunks(), artifact_key(story.attempt(2), "track.mp3"), content_type="audio/mpeg")
    assert (await world.client.get(late["url"])).content == b"0123456789"
    problem(await world.client.get(f"/api/jobs/{job_id}/artifacts/track.mp3"), 404, "artifact-not-found")
    problem(await world.client.get(f"/api/jobs/{job_id}/artifacts/track.mp3?attempt=1"), 404, "artifact-not-found")


async def test_the_providers_health_is_what_the_adapters_wrote(world: Any) -> None:
    answer_body = (await world.client.get("/api/health/providers")).json()
    assert answer_body == {
        "fal": "fail",
        "replicate": "fail",
        "fal_error": "no report from fal-adapter yet",
        "replicate_error": "no report from replicate-adapter yet",
    }
    connection = await asyncpg.connect(world.database_url)
    try:
        for schema, row in (
            ("fal_adapter", "('fal', 'fail', '401: the key is not accepted', now(), now())"),
            ("replicate_adapter", "('replicate', 'ok', NULL, now(), now())"),
        ):
            columns = "t(provider, status, error, since, checked_at)"
            view = f"CREATE VIEW {schema}.v_health AS SELECT * FROM (VALUES {row}) AS {columns}"  # noqa: S608 - ours
            await connection.execute(f"CREATE SCHEMA {schema}; {view}")
        await world.outdate_reads()
        answer_body = (await world.client.get("/api/health/providers")).json()
        assert answer_body == {
            "fal": "fail",
            "replicate": "ok",
            "fal_error": "401: the key is not accepted",
            "replicate_error": None,
        }
        await connection.execute(
            "CREATE OR REPLACE VIEW replicate_adapter.v_health AS SELECT * FROM (VALUES ('replicate', 'ok',"
            " NULL, now(), now() - interval '61 seconds')) AS t(provider, status, error, since, checked_at)"
        )
        await world.outdate_reads()
        answer_body = (await world.client.get("/api/health/providers")).json()
        assert answer_body["replicate"] == "fail"
        assert answer_body["replicate_error"].startswith("no report from replicate-adapter since ")
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS fal_adapter, replicate_adapter CASCADE")
        await connection.close()


async def test_the_models_are_the_catalogues(world: Any) -> None:
    models = (await world.client.get("/api/models")).json()["models"]
    assert {model["name"] for model in models} == set(world.parts.catalogue.models)
    assert all(model["routes"] for model in models)


async def test_a_call_is_one_span_in_the_trace_of_the_caller(world: Any) -> None:
    world.spans.clear()
    trace_id = "a" * 32
    response = await world.post(traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")
    await world.client.get("/readyz")
    await world.client.get(f"/api/jobs/{response.json()['job_id']}")
    sent, served = world.spans.get_finished_spans()
    assert (served.name, served.kind.name) == ("POST /api/tracks", "SERVER")
    assert (sent.name, sent.kind.name) == ("send segue.requests", "PRODUCER")
    assert sent.parent.span_id == served.context.span_id
    assert response.json()["trace_id"] == trace_id == format(served.context.trace_id, "032x")


async def test_the_docs_load_nothing_from_elsewhere(world: Any) -> None:
    page = await world.client.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    for asset in ("docs.js", "vendor/swagger-ui.css", "vendor/swagger-ui-bundle.js", "vendor/favicon-32x32.png"):
        assert f"/docs/assets/{asset}" in page.text
        assert (await world.client.get(f"/docs/assets/{asset}")).status_code == 200
    versions = (await world.client.get("/docs/assets/vendor/versions.json")).json()
    for name, digest in versions["swagger-ui-dist"]["sha256"].items():
        content = (await world.client.get(f"/docs/assets/vendor/{name}")).content
        assert hashlib.sha256(content).hexdigest() == digest
    examples = (await world.client.get("/openapi.json")).json()["paths"]["/api/tracks"]["post"]["requestBody"]
    assert set(examples["content"]["application/json"]["examples"]) == {"instrumental", "song"}


@pytest.mark.parametrize(
    ("field", "setting", "usual", "other"),
    [
        ("ambiguity_policy", "SEGUE_AMBIGUITY_POLICY", "hold", "resubmit"),
        ("lost_output_policy", "SEGUE_LOST_OUTPUT_POLICY", "retry_elsewhere", "fail"),
    ],
)
async def test_a_policy_is_that_of_the_request_or_else_of_the_settings(
    world: Any,
    world_on: Any,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    field: str,
    setting: str,
    usual: str,
    other: str,
) -> None:
    sent: dict[str, str] = {}

    def note(_: JobTail, envelope: Envelope, _arrived_at: datetime) -> None:
        if isinstance(envelope.message, JobRequested):
            sent[envelope.message.job_id] = getattr(envelope.message, field)

    async def policies(gateway: Any, *asked: dict[str, str]) -> list[str]:
        ids = [(await gateway.post({**SEED, **more})).json()["job_id"] for more in asked]
        return [sent[job_id] for job_id in ids]

    monkeypatch.setattr(JobTail, "take", note)
    assert await policies(world, {}, {field: other}) == [usual, other]
    servers = world.parts.settings.kafka_bootstrap_servers
    async with world_on(servers, world.database_url, tmp_path, **{setting: other}) as set_otherwise:
        assert await policies(set_otherwise, {}, {field: usual}) == [other, usual]
    answer_body = problem(await world.post({**SEED, field: "gamble"}), 422, "invalid-request")
    assert answer_body["errors"][0]["field"] == field
