"""A job that expired unsent is queued again, for every reader, from the repeat of its request on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.builders import job_requested
from tests.gateway.conftest import SEED
from tests.patience import patient

from contracts.envelope import Envelope
from contracts.failures import FailureKind
from contracts.ids import job_id_for, track_id_for
from contracts.messages.base import Message
from contracts.messages.jobs import JobFailed
from contracts.messages.requests import CancelRequested, JobRequested
from gateway.context import TENANT
from gateway.intake.track_request import TrackRequest
from gateway.queries import lookup, projection
from gateway.queries.model import Job
from gateway.queries.model_from_rows import job_of
from gateway.queries.projection import Known, fold, revived_until, state_at
from gateway.queries.read_model_sql import ReadModel
from gateway.queries.tail import JobTail
from read_model.merge import State
from read_model.tables import JOBS, Row

pytestmark = pytest.mark.asyncio(loop_scope="session")


def expired(story: Any, at: datetime, version: int = 1) -> JobFailed:
    fields = story.job(version, "failed") | {"occurred_at": at}
    return JobFailed(**fields, kind=FailureKind.EXPIRED, message="the request arrived too late; nothing was sent")


def read(tail: JobTail, message: Message, arrived_at: datetime | None = None) -> Known:
    tail.take(Envelope(message, str(message.event_id), "/segue/test", None), arrived_at or message.occurred_at)
    return tail.known(message.job_id)


def request(story: Any, after: timedelta, **changes: Any) -> JobRequested:
    return job_requested(story.job_id, story.begin + after, **changes)


def job_at(known: Known, now: datetime) -> Job:
    job = known.job_at(now)
    assert job is not None
    return job


FINGERPRINT = TrackRequest.model_validate(SEED).fingerprint()
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


async def test_a_repeat_revives_a_job_that_waited_until_its_deadline(story: Any) -> None:
    tail = JobTail()
    first = request(story, timedelta())
    read(tail, first)
    read(tail, story.accepted())
    over = read(tail, expired(story, first.deadline_at, version=2))
    assert job_at(over, first.deadline_at).never_run
    # The request that expired is read again by every gateway that starts.
    assert job_at(read(tail, first), first.deadline_at).final
    again = read(tail, repeat := request(story, HOUR))
    job = job_at(again, repeat.occurred_at)
    shown = (job.status, job.error_kind, job.finished_at, job.cost_usd, job.deadline_at, job.version)
    assert shown == ("queued", None, None, None, repeat.deadline_at, 2)
    assert not job.never_run, "it need not be published once more"


@pytest.mark.parametrize("repeat_first", [False, True])
async def test_a_repeat_from_before_the_deadline_of_an_accepted_job_does_not_revive_it(
    story: Any, repeat_first: bool
) -> None:
    tail = JobTail()
    first = request(story, timedelta())
    read(tail, first)
    read(tail, story.accepted())
    # Another gateway, which had not read the first request yet, published it. The orchestrator ignores it.
    repeat = request(story, 30 * SECOND)
    assert first.deadline_at < repeat.deadline_at
    messages: list[Message] = [expired(story, first.deadline_at, version=2), repeat]
    for message in messages[:: -1 if repeat_first else 1]:
        known = read(tail, message)
    assert revived_until(known.state) is None
    job = job_at(known, first.deadline_at)
    assert (job.status, job.error_kind, job.deadline_at) == ("failed", "expired", first.deadline_at)
    assert (await asyncio.wait_for(tail.final(story.job_id), patient(5))).never_run
    again = request(story, first.deadline_at - story.begin)
    assert job_at(read(tail, again), again.occurred_at).status == "queued"


@pytest.mark.parametrize("repeat_first", [False, True])
async def test_a_repeat_may_be_read_before_the_end_of_the_late_request(story: Any, repeat_first: bool) -> None:
    tail = JobTail()
    late, repeat = request(story, timedelta()), request(story, SECOND)
    read(tail, late, late.accept_by + SECOND)
    messages: list[Message] = [expired(story, story.begin + 2 * SECOND), repeat]
    for message in messages[:: -1 if repeat_first else 1]:
        known = read(tail, message)
    assert job_at(known, repeat.occurred_at).status == "queued"
    waiting = asyncio.create_task(tail.final(story.job_id))
    await asyncio.sleep(0)
    read(tail, replace(story, begin=story.begin + 3 * SECOND).accepted().model_copy(update={"version": 2}))
    await asyncio.sleep(0)
    assert not waiting.done()
    read(tail, story.succeeded())
    assert (await waiting).status == "succeeded"


async def test_a_job_that_nothing_revives_in_time_has_failed(story: Any) -> None:
    tail = JobTail()
    end = expired(story, story.begin + SECOND)
    late, repeat = request(story, timedelta()), request(story, SECOND)
    read(tail, late, late.accept_by + SECOND)
    read(tail, end)
    read(tail, repeat, repeat.accept_by + SECOND)
    assert job_at(tail.known(story.job_id), repeat.occurred_at).final, "the repeat was late too"
    known = read(tail, repeat)
    assert not job_at(known, repeat.deadline_at - SECOND).final
    # The orchestrator does not run a request that it reads after its deadline, and says nothing about it.
    assert job_at(known, repeat.deadline_at).never_run


@pytest.mark.parametrize("kind", [FailureKind.NO_ROUTE, FailureKind.EXPIRED])
async def test_a_job_that_was_sent_or_failed_otherwise_is_not_revived(story: Any, kind: FailureKind) -> None:
    tail = JobTail()
    end = expired(story, story.begin + SECOND, version=4).model_copy(update={"kind": kind})
    if kind is FailureKind.EXPIRED:
        read(tail, story.started())
    read(tail, end)
    known = read(tail, repeat := request(story, 2 * SECOND))
    assert revived_until(known.state) is None
    assert job_at(known, repeat.occurred_at).final


async def test_a_list_builds_the_jobs_of_its_page_although_many_have_just_failed(
    world: Any, story_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.empty_tail()
    stories = [story_of(job_id_for(TENANT, f"failed together {n}")) for n in range(50)]
    for story in stories:
        read(world.parts.tail, request(story, timedelta()))
        read(world.parts.tail, story.failed())
    built: list[object] = []

    def counted(state: State) -> Job | None:
        built.append(state)
        return job_of(state)

    for module in (lookup, projection):
        monkeypatch.setattr(module, "job_of", counted)
    listed = (await world.client.get("/api/jobs?limit=2")).json()["jobs"]
    assert [each["id"] for each in listed] == [story.job_id for story in stories[:-3:-1]]
    assert len(built) == 3, "the two jobs of the page, and one more that shows that there are more"


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_cancel_of_the_expired_job_is_not_one_of_the_revived_job(story: Any, accepted: bool) -> None:
    tail = JobTail()
    first, repeat = request(story, timedelta()), request(story, HOUR)
    read(tail, first)
    cancel = CancelRequested(job_id=story.job_id, occurred_at=story.begin + SECOND, tenant=TENANT)
    assert job_at(read(tail, cancel), cancel.occurred_at).cancel_asked_at == cancel.occurred_at
    read(tail, expired(story, first.deadline_at))
    known = read(tail, repeat)
    if accepted:
        known = read(tail, again := story.accepted().model_copy(update={"version": 2}))
        stored = dict(fold(Known(), Envelope(again, "accepted", "", None)).state)
        stored[JOBS, story.job_id] = {**stored[JOBS, story.job_id], "cancel_asked_at": cancel.occurred_at}
        seen = job_of(state_at(stored, repeat.occurred_at))
        assert seen is not None
        assert seen.cancel_asked_at is None, "the tail has dropped the job"
    job = job_at(known, repeat.occurred_at)
    assert (job.status, job.cancel_asked_at) == ("queued", None)
    # The same event to the read model, although it is about the revived job.
    known = read(tail, cancel.model_copy(update={"occurred_at": repeat.occurred_at + SECOND}))
    assert job_at(known, repeat.occurred_at).cancel_asked_at is not None


async def test_a_cancel_that_is_read_before_the_first_event_of_its_job_is_shown(story: Any) -> None:
    tail = JobTail()
    read(tail, request(story, -SECOND))
    read(tail, cancel := CancelRequested(job_id=story.job_id, occurred_at=story.begin, tenant=TENANT))
    assert job_at(read(tail, story.accepted()), story.begin).cancel_asked_at == cancel.occurred_at


async def test_every_answer_says_queued_after_the_repeat(
    world: Any, world_on: Any, story_of: Any, until: Any, tmp_path: Any
) -> None:
    key = "revived"
    job_id = job_id_for(TENANT, key)
    track = f"/api/tracks/{track_id_for(job_id)}"
    story = story_of(job_id)
    end = expired(story, datetime.now(UTC))
    await world.store(end)
    failed = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert (failed["status"], failed["error"]["kind"]) == ("failed", "expired")
    answer = await world.post(idempotency_key=key, prefer="wait=1")
    assert (answer.status_code, answer.json().get("job_id")) == (202, job_id), answer.text
    servers = world.parts.settings.kafka_bootstrap_servers
    async with world_on(servers, world.database_url, tmp_path) as other:

        async def ready() -> bool:
            return bool((await other.client.get("/readyz")).is_success)

        await until(ready)
        for client in (world.client, other.client):
            job = (await client.get(f"/api/jobs/{job_id}")).json()
            assert (job["status"], job["error"], job["finished_at"]) == ("queued", None, None)
            assert (await client.get(track)).json()["status"] == "queued"
        # Of those that wait, the tail also reads the end late.
        await world.publish(end)
        cancelled = await other.client.post(f"/api/jobs/{job_id}/cancel", headers={"prefer": "wait=1"})
        assert (cancelled.status_code, cancelled.json()["cancel"]["effect"]) == (202, "pending")

    async def cancel_is_known() -> bool:
        return any(line.event == "job.cancel_requested" for line in world.parts.tail.known(job_id).log)

    await until(cancel_is_known)
    listed = (await world.client.get("/api/jobs?status=failed")).json()["jobs"]
    assert job_id not in [each["id"] for each in listed]


async def all_of(world: Any, path: str = "jobs", **wanted: str) -> AsyncIterator[dict[str, Any]]:
    """The jobs or tracks of all pages: other tests have listed some too."""
    cursor: str | None = ""
    while cursor is not None:
        asked = wanted | ({"limit": "100", "cursor": cursor} if cursor else {})
        page = (await world.client.get(f"/api/{path}", params=asked)).json()
        for each in page[path]:
            yield each
        cursor = page["next_cursor"]


async def test_a_revived_job_is_listed_once_and_in_the_place_of_its_first_request(
    world: Any, story_of: Any, until: Any
) -> None:
    key = "revived in its place"
    story = story_of(job_id_for(TENANT, key))
    first = replace(story, begin=story.begin - HOUR)
    await world.store(request(first, timedelta(), fingerprint=FINGERPRINT), expired(first, first.begin))
    assert (await world.post(idempotency_key=key)).status_code == 202
    await world.publish(story.accepted().model_copy(update={"version": 2}))

    async def accepted() -> bool:
        return bool(world.parts.tail.known(story.job_id).job.version == 2)

    await until(accepted)
    newest = (await world.client.get("/api/jobs?limit=1")).json()["jobs"]
    assert [each["id"] for each in newest] != [story.job_id]
    found = [(each["status"], each["provider"]) async for each in all_of(world) if each["id"] == story.job_id]
    assert found == [("queued", "fal")]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects of the statements of the read model."""
    fetch, subjects = ReadModel._fetch, []

    async def counted(reads: ReadModel, subject: str, sql: str, *arguments: object) -> list[Row]:
        subjects.append(subject)
        return await fetch(reads, subject, sql, *arguments)

    monkeypatch.setattr(ReadModel, "_fetch", counted)
    return subjects


@pytest.mark.parametrize("limit", ["1", "20"])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("event_too", [False, True], ids=["", "and an event"])
async def test_an_old_job_is_listed_once_although_the_tail_has_nothing_but_a_repeat_of_its_request(
    world: Any, story_of: Any, number: int, limit: str, *, event_too: bool
) -> None:
    old: list[Any] = []
    for n in range(number):
        story = story_of(job_id_for(TENANT, f"long over {n} {number} {limit} {event_too}"))
        old.append(replace(story, begin=story.begin - 3 * HOUR))
        await world.store(request(old[-1], timedelta()), *old[-1].jobs())
    newer = [story_of(job_id_for(TENANT, f"newer {n} {number} {limit} {event_too}")) for n in range(2)]
    await world.store(*(request(each, -HOUR) for each in newer))
    world.empty_tail()
    # PostgreSQL did not answer when the gateway asked whether the job exists, so it was published again.
    for story in old:
        read(world.parts.tail, job_requested(story.job_id, datetime.now(UTC)))
        if event_too:
            read(world.parts.tail, story.started().model_copy(update={"occurred_at": datetime.now(UTC)}))
    ids = {story.job_id for story in old}
    queued = [each["id"] async for each in all_of(world, status="queued", limit=limit)]
    assert not ids & set(queued)
    assert len(queued) == len(set(queued))
    listed = [each async for each in all_of(world, limit=limit)]
    places = [each["id"] for each in listed if each["id"] in ids | {each.job_id for each in newer}]
    assert places == [each.job_id for each in (*newer[::-1], *old[::-1])]
    assert {each["status"] for each in listed if each["id"] in ids} == {"succeeded"}
    tracks = [(each["job_id"], each["status"]) async for each in all_of(world, "tracks", limit=limit)]
    assert sorted(each for each in tracks if each[0] in ids) == sorted((job_id, "succeeded") for job_id in ids)


async def test_only_a_list_with_a_job_of_the_tail_without_a_plan_looks_it_up(
    world: Any, story_of: Any, statements: list[str]
) -> None:
    world.empty_tail()
    story = story_of(job_id_for(TENANT, "with its plan"))
    for message in (request(story, timedelta()), story.accepted()):
        read(world.parts.tail, message)
    usual = {"jobs": 3, "tracks": 1}
    for planned in (True, False):
        if not planned:
            new = story_of(job_id_for(TENANT, "without its plan"))
            read(world.parts.tail, request(new, timedelta()))
        for path, number in usual.items():
            statements.clear()
            listed = (await world.client.get(f"/api/{path}?limit=5")).json()[path]
            assert listed[0]["status"] == "queued"
            assert len(statements) == number + (not planned), statements


async def test_the_list_of_tracks_has_a_revived_job_as_queued_too(world: Any, story_of: Any) -> None:
    key = "revived track"
    story = story_of(job_id_for(TENANT, key))
    first = replace(story, begin=story.begin - HOUR)
    await world.store(request(first, timedelta(), fingerprint=FINGERPRINT), expired(first, first.begin))
    world.empty_tail()
    assert (await world.post(idempotency_key=key)).status_code == 202
    alone = (await world.client.get(f"/api/tracks/{track_id_for(story.job_id)}")).json()
    assert alone["status"] == "queued"
    for limit in ("1", "20", "100"):
        listed = [each async for each in all_of(world, "tracks", limit=limit) if each["job_id"] == story.job_id]
        assert listed == [alone]


@pytest.mark.parametrize(("days", "runs"), [(88.9, True), (89.1, False)])
async def test_a_job_whose_row_may_be_deleted_is_answered_as_it_is(
    world: Any, story_of: Any, days: float, runs: bool
) -> None:
    key = f"expired {days} days ago"
    story = story_of(job_id_for(TENANT, key))
    await world.store(expired(story, datetime.now(UTC) - timedelta(days=days)))
    answer = await world.post(idempotency_key=key)
    assert (answer.status_code, answer.json()["job_id"]) == (202, story.job_id)
    job = (await world.client.get(f"/api/jobs/{story.job_id}")).json()
    assert job["status"] == ("queued" if runs else "failed")
    assert (world.parts.tail.known(story.job_id).job is not None) == runs, "it was published"
