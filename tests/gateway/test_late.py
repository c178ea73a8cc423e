"""Late events of an ended attempt: stored and shown with the attempt, the cost is counted, the job does not change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.builders import artifact, attempt_fields, attempt_outcome

from chassis.artifact_keys import artifact_key
from contracts.failures import FailureKind
from contracts.ids import track_id_for
from contracts.messages.attempts import AttemptCancelled, AttemptFailed, AttemptSubmitted, AttemptSucceeded
from contracts.messages.base import Message
from contracts.messages.jobs import JobCancelled, JobFailed
from contracts.messages.wording import describe

pytestmark = pytest.mark.asyncio(loop_scope="session")

LATE = artifact(duration_s=19.0)
LOST = {"kind": FailureKind.AMBIGUOUS_SUBMISSION, "message": "nobody knows"}


def about(story: Any, n: int, version: int) -> dict[str, Any]:
    return attempt_fields(story.job_id, n, version, story.begin + timedelta(seconds=60 * n + version))


def failed(story: Any) -> list[Message]:
    return [
        story.accepted(),
        AttemptFailed(**about(story, 1, 3), **LOST, accepted=False),
        JobFailed(**story.job(4, "failed"), **LOST, attempts=(attempt_outcome(story.job_id, 1, **LOST),)),
    ]


def cancelled(story: Any) -> list[Message]:
    return [
        story.accepted(),
        AttemptFailed(**about(story, 1, 3), **LOST, accepted=False),
        JobCancelled(
            **story.job(4, "cancelled"), effect="may_have_cost", attempts=(attempt_outcome(story.job_id, 1, **LOST),)
        ),
    ]


def succeeded(story: Any) -> list[Message]:
    never_accepted = {"kind": FailureKind.NEVER_ACCEPTED, "message": "not in the listing"}
    made = AttemptSucceeded(**about(story, 2, 3), provider_ref="r8-1", artifacts=(story.artifact,), cost_usd=0.03)
    return [
        story.accepted(),
        AttemptFailed(**about(story, 1, 3), **never_accepted, accepted=False, cost_usd=0.0),
        story.rerouted(),
        story.started(),
        made,
        story.succeeded(),
    ]


def result(story: Any) -> Message:
    return AttemptSucceeded(**about(story, 1, 4), provider_ref="req-1", artifacts=(LATE,), cost_usd=0.2, late=True)


def never_accepted(story: Any) -> Message:
    known = {"kind": FailureKind.NEVER_ACCEPTED, "message": "an operator looked", "accepted": False, "cost_usd": 0.0}
    return AttemptFailed(**about(story, 1, 4), **known, late=True)


def stopped(story: Any) -> Message:
    return AttemptCancelled(**about(story, 1, 4), provider_ref="req-1", may_have_cost=False, late=True)


Messages = Callable[[Any], list[Message]]
Late = Callable[[Any], Message]


@pytest.mark.parametrize("messages_of", [failed, cancelled, succeeded])
@pytest.mark.parametrize("late", [result, never_accepted, stopped])
async def test_a_late_event_changes_the_cost_of_the_job_and_nothing_else(
    world: Any, story_of: Any, messages_of: Messages, late: Late
) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    url = f"/api/jobs/{job_id}"
    await world.store(*messages_of(story))
    before = (await world.client.get(url)).json()
    await world.store(late(story))
    after = (await world.client.get(url)).json()
    kept = ("status", "provider", "model", "artifacts", "finished_at", "error")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert [each["late"] for each in after["attempts"]] == [True] + [False] * (len(after["attempts"]) - 1)
    more = 0.2 if late is result else 0.0
    assert after["cost_usd"] == pytest.approx(more + (0.03 if messages_of is succeeded else 0.0))
    first = after["attempts"][0]
    if late is result:
        assert (first["state"], first["provider_ref"], first["error_kind"]) == ("succeeded", "req-1", None)
        assert [each["sha256"] for each in first["late_artifacts"]] == [LATE.sha256]
    elif late is never_accepted:
        assert (first["state"], first["error_kind"], first["cost_usd"]) == ("failed", "never_accepted", 0.0)
    else:
        assert (first["state"], first["error_kind"], first["cost_usd"]) == ("cancelled", None, 0.0)
    track = (await world.client.get(f"/api/tracks/{track_id_for(story.job_id)}")).json()
    assert track["provider"] == ("replicate" if messages_of is succeeded else None)
    lines = (await world.client.get(f"{url}/logs")).json()["entries"]
    [line] = [each for each in lines if "the job had already gone on without it" in each["message"]]
    assert (line["message"], line["attempt"]) == (describe(late(story)), 1)


async def test_a_cost_that_is_reported_after_the_end_of_the_job_is_part_of_its_own(world: Any, story_of: Any) -> None:
    """The adapter was silent until the job ended, and does not know that it is late."""
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    expired = {"kind": FailureKind.EXPIRED, "message": "the deadline passed"}
    live = attempt_outcome(story.job_id, 1, outcome="live", kind=None, message=None)
    await world.store(
        story.accepted(),
        AttemptSubmitted(**about(story, 1, 3), provider_ref="req-1"),
        JobFailed(**story.job(4, "failed"), **expired, attempts=(live,)),
    )
    url = f"/api/jobs/{job_id}"
    assert (await world.client.get(url)).json()["cost_usd"] is None
    await world.store(result(story).model_copy(update={"late": False}))
    after = (await world.client.get(url)).json()
    assert (after["status"], after["cost_usd"]) == ("failed", 0.2)


@pytest.mark.parametrize("messages_of", [failed, cancelled, succeeded])
@pytest.mark.parametrize("late", [None, result, never_accepted, stopped])
async def test_the_tail_and_the_tables_show_the_same_job(
    world: Any, story_of: Any, until: Any, messages_of: Messages, late: Late | None
) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    messages = [*messages_of(story), *([late(story)] if late else [])]
    await world.publish(*(message for message in messages if message.TYPE.startswith("segue.job.")))

    async def tailed() -> bool:
        job = world.parts.tail.known(job_id).job
        return bool(job and job.final)

    await until(tailed)
    # In reverse order: the late event is stored before the end of the job.
    await world.store(*messages[::-1])
    both = (await world.client.get(f"/api/jobs/{job_id}")).json()
    world.empty_tail()
    tables = (await world.client.get(f"/api/jobs/{job_id}")).json()
    # The request was published but not stored.
    assert {name for name in both if both[name] != tables[name]} == {"requested_at"}


async def test_files_of_the_same_name_are_kept_for_each_attempt(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.store(*succeeded(story), result(story))

    async def bytes_of(attempt: int) -> Any:
        yield f"of {attempt}".ljust(LATE.size_bytes if attempt == 1 else story.artifact.size_bytes).encode()

    for n in (1, 2):
        key = artifact_key(story.attempt(n), "track.mp3")
        await world.parts.store.put_file(bytes_of(n), key, content_type="audio/mpeg")
    job = (await world.client.get(f"/api/jobs/{job_id}")).json()
    [own] = job["artifacts"]
    [late] = job["attempts"][0]["late_artifacts"]
    assert own["name"] == late["name"]
    assert late["url"] == f"/api/jobs/{job_id}/artifacts/track.mp3?attempt=1"
    assert (await world.client.get(late["url"])).content.startswith(b"of 1")
    assert (await world.client.get(own["url"])).content.startswith(b"of 2")


async def test_a_late_result_is_shown_while_the_job_runs_elsewhere(world: Any, story_of: Any) -> None:
    job_id = (await world.post()).json()["job_id"]
    story = story_of(job_id)
    await world.store(*succeeded(story)[:4], result(story))
    job = (await world.client.get(f"/api/jobs/{job_id}")).json()
    assert (job["status"], job["artifacts"]) == ("running", [])
    assert [each["name"] for each in job["attempts"][0]["late_artifacts"]] == ["track.mp3"]
