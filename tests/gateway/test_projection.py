"""The tail's view of a job does not depend on repeats or on the order in which the topics are read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import attempt_event, job_requested

from contracts.envelope import Envelope
from contracts.failures import FailureKind
from contracts.ids import attempt_id_for, job_id_for, track_id_for
from contracts.messages.attempts import AttemptProgressed
from contracts.messages.base import Message
from contracts.messages.requests import CancelRequested, JobRequested, ResolutionRequested
from gateway.queries.model_from_rows import job_of
from gateway.queries.projection import MAX_LINES, Known, fold
from gateway.queries.tail import MAX_OWN, JobTail
from read_model.merge import joined

TRACEPARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


def envelope(message: Message) -> Envelope:
    return Envelope(message, str(message.event_id), "/segue/test", TRACEPARENT)


def requested(story: Any) -> JobRequested:
    return job_requested(story.job_id, story.begin, metadata={"order": "7"})


def folded(*messages: Message) -> Known:
    known = Known()
    for message in messages:
        known = fold(known, envelope(message))
    return known


def test_the_messages_of_a_job_become_its_state_and_its_log(story: Any) -> None:
    known = folded(requested(story), *story.jobs())
    job = known.job
    assert job is not None
    assert (job.status, job.provider, job.model, job.cost_usd, job.version) == (
        "succeeded",
        "replicate",
        "music/minimax-2",
        0.03,
        4,
    )
    assert [(a.n, a.provider, a.state, a.kind, a.endpoint) for a in job.attempts] == [
        (1, "fal", "failed", "insufficient_balance", "fal-ai/minimax-music/v2"),
        (2, "replicate", "succeeded", None, "minimax/music-1.5"),
    ]
    assert job.artifacts_of == story.attempt(2)
    assert [line.event for line in known.log] == [
        "job.requested",
        "job.accepted",
        "job.rerouted",
        "job.started",
        "job.succeeded",
    ]


def test_money_is_in_the_line_of_the_log_and_not_in_the_error(story: Any) -> None:
    known = folded(requested(story), story.accepted(), story.failed())
    assert known.job is not None
    assert known.job.error_message == "nobody could make it"
    assert known.log[-1].message == "nobody could make it; nothing was paid"


def test_what_an_attempt_said_while_it_ran_is_over_once_its_job_has_succeeded(story: Any) -> None:
    waits = attempt_event(AttemptProgressed, story.job_id, 2, 3, story.begin, stage="collecting", message="not yet")
    running = folded(requested(story), story.accepted(), story.rerouted(), story.started(), waits)
    assert running.job is not None
    assert (running.job.attempts[1].state, running.job.attempts[1].message) == ("collecting", "not yet")
    over = fold(running, envelope(story.succeeded())).job
    assert over is not None
    assert (over.attempts[1].state, over.attempts[1].message) == ("succeeded", None)
    assert over.attempts[0].message == "User is locked."


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_messages_may_be_read_in_any_order_repeatedly_and_by_two_readers(story: Any, data: st.DataObject) -> None:
    cancel_request = CancelRequested(job_id=story.job_id, occurred_at=story.begin, tenant="default")
    messages = [requested(story), cancel_request, *story.jobs()]
    order = data.draw(st.permutations([*messages, *data.draw(st.lists(st.sampled_from(messages), max_size=5))]))
    known = folded(*order)
    assert known.job == folded(*messages).job
    cut = data.draw(st.integers(0, len(order)))
    assert joined(folded(*order[:cut]).state, folded(*order[cut:]).state) == known.state


def test_a_request_to_cancel_an_unknown_job_makes_no_job(story: Any) -> None:
    cancel_request = CancelRequested(job_id=story.job_id, occurred_at=story.begin, tenant="default")
    assert folded(cancel_request).job is None


def test_the_newer_version_wins_and_keeps_fields_that_only_the_other_has(story: Any) -> None:
    old = folded(requested(story), story.accepted()).state
    new = folded(*story.jobs()).state
    for both in (joined(old, new), joined(new, old)):
        job = job_of(both)
        assert job is not None
        assert (job.status, [attempt.n for attempt in job.attempts]) == ("succeeded", [1, 2])
        assert (job.metadata, job.fingerprint, job.requested_at) == ({"order": "7"}, "a" * 64, story.begin)


def test_a_request_that_arrived_too_late_makes_no_job_in_the_tail(story: Any) -> None:
    tail, message = JobTail(), requested(story)
    tail.take(envelope(message), message.accept_by + timedelta(milliseconds=1))
    assert tail.known(story.job_id) == Known()
    tail.take(envelope(message), message.accept_by)
    assert tail.known(story.job_id).job is not None


def test_a_record_that_this_process_has_published_is_known_once(story: Any) -> None:
    tail, message = JobTail(), requested(story)
    tail.take_own(envelope(message), message.accept_by, ("segue.requests", 3, 100))
    assert tail.known(story.job_id).job is not None

    def known(topic: str, partition: int, offset: int, key: str = story.job_id) -> bool:
        record: Any = SimpleNamespace(topic=topic, partition=partition, offset=offset, key=key.encode())
        return tail.has_taken(record)

    assert not known("segue.jobs", 3, 100)
    assert not known("segue.requests", 2, 100)
    assert not known("segue.requests", 3, 101)
    assert known("segue.requests", 3, 100)
    assert not known("segue.requests", 3, 100), "another one, as the topic was created again"


def test_another_record_at_the_place_of_an_own_one_is_not_known(story: Any) -> None:
    tail, message = JobTail(), requested(story)
    tail.take_own(envelope(message), message.accept_by, ("segue.requests", 3, 100))
    record: Any = SimpleNamespace(topic="segue.requests", partition=3, offset=100, key=b"another job")
    assert not tail.has_taken(record)


def test_the_number_of_own_records_that_are_known_is_limited(story: Any) -> None:
    tail, message = JobTail(), requested(story)
    for offset in range(MAX_OWN + 1):
        tail.take_own(envelope(message), message.accept_by, ("segue.requests", 3, offset))
    key = story.job_id.encode()
    records: list[Any] = [
        SimpleNamespace(topic="segue.requests", partition=3, offset=n, key=key) for n in (0, 1, MAX_OWN)
    ]
    assert [tail.has_taken(record) for record in records] == [False, True, True]


def test_a_job_that_is_accepted_after_a_late_request_is_queued(story: Any) -> None:
    late = changed_event(story.failed(), version=1, kind=FailureKind.EXPIRED)
    again = changed_event(story.accepted(), version=2)
    job = folded(requested(story), late, again).job
    assert job is not None
    assert (job.status, job.error_kind, job.error_message, job.finished_at) == ("queued", None, None, None)
    assert not job.never_run


def changed_event(event: Message, **fields: object) -> Message:
    return event.model_copy(update=fields)


def test_the_tail_drops_the_jobs_with_the_oldest_messages(story: Any) -> None:
    tail = JobTail(max_jobs=2)
    ids = [job_id_for("default", str(n)) for n in range(3)]
    for job_id in ids:
        message = requested(replace(story, job_id=job_id))
        tail.take(envelope(message), message.occurred_at)
    assert tail.known(ids[0]).job is None
    assert tail.of_track(track_id_for(ids[0])).job is None
    assert tail.of_track(track_id_for(ids[2])).job is not None


def test_a_message_about_an_old_job_hides_no_new_job(story: Any) -> None:
    tail, now = JobTail(), story.begin + timedelta(hours=1)
    old, new = (requested(replace(story, job_id=job_id_for("default", each))) for each in ("old", "new"))
    tail.take(envelope(old), None)
    tail.take(envelope(new.model_copy(update={"occurred_at": now})), None)
    of = {"attempt_id": attempt_id_for(old.job_id, 1), "provider": "fal", "tenant": "default"}
    tail.take(envelope(ResolutionRequested(job_id=old.job_id, occurred_at=now, **of)), None)
    assert [job["job_id"] for job, _ in tail.recent("default", now)] == [new.job_id]


def test_the_bytes_of_messages_in_the_tail_are_limited(story: Any) -> None:
    tail = JobTail(max_bytes=1000)
    ids = [job_id_for("default", str(n)) for n in range(4)]
    for job_id in ids:
        message = requested(replace(story, job_id=job_id))
        tail.take(replace(envelope(message), size=400), message.occurred_at)
    assert [tail.known(job_id).job is not None for job_id in ids] == [False, False, True, True]
    tail.take(replace(envelope(requested(replace(story, job_id=ids[0]))), size=2000), None)
    assert [tail.known(job_id).job is not None for job_id in ids] == [False] * 4, "it does not fit alone"
    tail.take(replace(envelope(requested(replace(story, job_id=ids[1]))), size=400), None)
    assert tail.known(ids[1]).job is not None


def test_the_lines_of_a_log_in_the_tail_are_limited(story: Any) -> None:
    known = folded(requested(story))
    cancel_request = CancelRequested(job_id=story.job_id, occurred_at=story.begin, tenant="default")
    for n in range(MAX_LINES + 50):
        known = fold(known, replace(envelope(cancel_request), event_id=str(n)))
    assert len(known.log) == MAX_LINES
    assert known.log[-1].event_id == str(MAX_LINES + 49)
