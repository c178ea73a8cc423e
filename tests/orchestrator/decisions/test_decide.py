"""The decisions on a job: the messages and the state that follow from each input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.builders import artifact, attempt_event, candidate, job_requested

from contracts.failures import FAILURES, FailureKind
from contracts.generation import LostOutputPolicy, Provider
from contracts.ids import attempt_id_for, job_id_for
from contracts.messages.attempts import (
    AttemptAmbiguous,
    AttemptCancelled,
    AttemptEvent,
    AttemptFailed,
    AttemptProgressed,
    AttemptSubmitted,
    AttemptSubmitting,
    AttemptSucceeded,
)
from contracts.messages.base import Message
from contracts.messages.commands import CancelAttempt, CollectAttempt, ResolveAttempt, RunAttempt
from contracts.messages.jobs import (
    JobAccepted,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRerouted,
    JobStarted,
    JobSucceeded,
)
from contracts.messages.requests import CollectionRequested, ResolutionRequested
from contracts.messages.wording import describe
from orchestrator.decisions.after_attempt import WITHOUT_EFFECT
from orchestrator.decisions.decide import CANCEL_GRACE_S, DEADLINE_GRACE_S, decide
from orchestrator.decisions.decision import Decision
from orchestrator.decisions.inputs import Attempted, CancelAsked, CollectAsked, Due, Requested, ResolveAsked
from orchestrator.decisions.job import Candidate, Job
from orchestrator.decisions.remaining_candidates import NOT_ENABLED, OFF, RETRY_S, SILENT_RETRY_S, Silent

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEADLINE = NOW + timedelta(minutes=30)
OVER = DEADLINE + timedelta(seconds=DEADLINE_GRACE_S)
JOB = job_id_for("default", "decide")
ARTIFACT = artifact()


BOTH = (candidate("fal", "fal/model"), candidate("replicate", "replicate/model"))


def requested(
    candidates: tuple[Candidate, ...] = BOTH,
    arrived_at: datetime = NOW,
    fingerprint: str = "0" * 64,
    lost_output_policy: LostOutputPolicy = "retry_elsewhere",
) -> Requested:
    more = {"fingerprint": fingerprint, "lost_output_policy": lost_output_policy}
    request = job_requested(JOB, NOW, deadline_at=DEADLINE, **more)
    return Requested(request, candidates, (), None, arrived_at)


def attempted(event: type[AttemptEvent], n: int = 1, /, **more: object) -> Attempted:
    at = BOTH[(n - 1) % 2]
    route = {"provider": at.provider, "model": "music/test", "endpoint": at.endpoint}
    return Attempted(attempt_event(event, JOB, n, 3, NOW, **route | more))


def failed(kind: FailureKind, n: int = 1, *, accepted: bool = False, cost_usd: float | None = None) -> Attempted:
    return attempted(AttemptFailed, n, kind=kind, message=f"it was {kind}", accepted=accepted, cost_usd=cost_usd)


def names(messages: tuple[Message, ...]) -> list[str]:
    return [type(message).__name__ for message in messages]


def after(*inputs: object, now: datetime = NOW) -> Decision:
    """The last decision after these inputs."""
    decision = Decision(None)
    for input_ in inputs:
        decision = decide(decision.job, input_, now)  # type: ignore[arg-type]  # any inputs
    return decision


def test_events_of_the_job_have_the_code_and_status_of_the_provider() -> None:
    expected = {"kind": FailureKind.RATE_LIMITED, "error_code": "E7", "message": "too many", "http_status": 429}
    moved = after(requested(), attempted(AttemptFailed, 1, **expected, accepted=False))
    [rerouted] = [message for message in moved.messages if isinstance(message, JobRerouted)]
    assert rerouted.model_dump(include=set(expected)) == expected
    ended = after(requested((candidate("fal", "fal/model"),)), attempted(AttemptFailed, 1, **expected, accepted=False))
    [over] = [message for message in ended.messages if isinstance(message, JobFailed)]
    assert [outcome.model_dump(include=set(expected)) for outcome in over.attempts] == [expected]


def test_a_request_is_accepted_and_goes_to_the_first_provider() -> None:
    decision = after(requested())
    accepted, command = decision.messages
    assert isinstance(accepted, JobAccepted)
    assert [route.provider for route in accepted.plan] == ["fal", "replicate"]
    assert isinstance(command, RunAttempt)
    assert (command.provider, command.n, command.arguments) == ("fal", 1, {"prompt": "pad"})
    assert decision.job is not None
    assert decision.job.next_action_at == DEADLINE


def test_a_repeated_request_changes_nothing() -> None:
    first = after(requested())
    assert decide(first.job, requested(), NOW) == Decision(first.job)


def test_a_request_that_reached_kafka_too_late_is_recorded_and_not_run() -> None:
    decision = after(requested(arrived_at=NOW + timedelta(seconds=16)))
    assert names(decision.messages) == ["JobFailed"]
    assert decision.job is not None
    assert (decision.job.state, decision.job.kind) == ("failed", FailureKind.EXPIRED)


def test_a_timely_repeat_of_a_late_request_is_run() -> None:
    late = requested(arrived_at=NOW + timedelta(seconds=16))
    decision = after(late, requested())
    assert names(decision.messages) == ["JobAccepted", "RunAttempt"]
    events = [message for message in decision.messages if isinstance(message, JobEvent)]
    assert [event.version for event in events] == [2]


def test_a_request_that_is_read_again_after_its_deadline_does_not_end_again() -> None:
    first = after(requested(), now=DEADLINE)
    assert names(first.messages) == ["JobFailed"]
    assert decide(first.job, requested(), OVER) == Decision(first.job)


def test_a_cancel_that_is_delivered_again_does_not_stop_the_request_that_came_after_it() -> None:
    late, cancel, again = (NOW + timedelta(seconds=n) for n in (16, 17, 18))
    in_time = job_requested(JOB, again, deadline_at=DEADLINE, fingerprint="0" * 64)
    repeat = replace(requested(arrived_at=again), request=in_time)
    revived = after(requested(arrived_at=late), CancelAsked(cancel), repeat).job
    assert revived is not None
    assert decide(revived, CancelAsked(cancel), NOW) == Decision(revived)
    assert names(decide(revived, CancelAsked(again), NOW).messages) == ["CancelAttempt"]


def test_a_request_that_was_made_while_the_accepted_job_lived_does_not_revive_it() -> None:
    """Such a repeat was ignored while the job lived; Kafka delivers it again if its offset was not committed."""
    silent: Silent = {"fal": None, "replicate": None}
    waiting = decide(None, requested(), NOW, silent).job
    dead = decide(waiting, Due(), DEADLINE, silent).job
    assert dead is not None
    assert (dead.kind, dead.attempts) == (FailureKind.EXPIRED, ())
    later = DEADLINE + timedelta(minutes=30)
    for made_at, revives in ((DEADLINE - timedelta(seconds=1), False), (DEADLINE, True)):
        request = job_requested(JOB, made_at, deadline_at=later, fingerprint="0" * 64)
        repeat = replace(requested(arrived_at=made_at), request=request)
        decision = decide(dead, repeat, OVER, silent)
        assert bool(decision.messages) is revives
        assert decide(replace(dead, planned=False), repeat, OVER, silent).messages, "stored by an earlier release"


def test_no_job_ends_for_want_of_a_report_before_the_reports_were_read() -> None:
    running = after(requested()).job
    decision = decide(running, Due(reports_read=False), OVER)
    assert decision.messages == ()
    assert decision.job is not None
    assert decision.job.next_action_at == OVER + timedelta(seconds=DEADLINE_GRACE_S)
    reported = decide(decision.job, attempted(AttemptSucceeded, artifacts=(ARTIFACT,)), OVER)
    assert names(reported.messages) == ["JobSucceeded"]
    assert names(decide(decision.job, Due(), OVER).messages) == ["JobFailed"]


def test_another_body_under_the_same_key_does_not_revive_a_late_request() -> None:
    late = requested(arrived_at=NOW + timedelta(seconds=16))
    assert after(late, requested(fingerprint="1" * 64)).messages == ()


def test_a_request_without_a_route_fails_with_the_reason() -> None:
    decision = after(replace(requested(candidates=()), problem="no model 'x' in the catalogue"))
    assert names(decision.messages) == ["JobAccepted", "JobFailed"]
    last = decision.messages[-1]
    assert isinstance(last, JobFailed)
    assert last.kind is FailureKind.NO_ROUTE
    assert "no model 'x'" in last.message


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if FAILURES[kind].moves_on])
def test_a_failure_with_evidence_moves_the_job_to_the_next_provider(kind: FailureKind) -> None:
    decision = after(requested(), failed(kind))
    assert names(decision.messages) == ["RunAttempt", "JobRerouted"]
    command, rerouted = decision.messages
    assert isinstance(command, RunAttempt)
    assert (command.provider, command.n) == ("replicate", 2)
    assert isinstance(rerouted, JobRerouted)
    assert (rerouted.from_provider, rerouted.to_provider, rerouted.kind) == ("fal", "replicate", kind)


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if not FAILURES[kind].moves_on])
def test_a_failure_without_evidence_ends_the_job(kind: FailureKind) -> None:
    decision = after(requested(), failed(kind))
    assert names(decision.messages) == ["JobFailed"]
    (event,) = decision.messages
    assert isinstance(event, JobFailed)
    assert event.kind is kind


def test_the_failure_of_the_last_attempt_reports_the_reason_of_each() -> None:
    decision = after(
        requested(),
        failed(FailureKind.INSUFFICIENT_BALANCE, cost_usd=0.0),
        failed(FailureKind.MODEL_ERROR, 2, accepted=True, cost_usd=0.05),
    )
    (event,) = decision.messages
    assert isinstance(event, JobFailed)
    assert "fal (attempt 1): insufficient_balance" in event.message
    assert "replicate (attempt 2): model_error" in event.message
    assert [attempt.kind for attempt in event.attempts] == [FailureKind.INSUFFICIENT_BALANCE, FailureKind.MODEL_ERROR]
    assert event.cost_usd == pytest.approx(0.05)


def test_a_job_starts_once() -> None:
    first = after(requested(), attempted(AttemptSubmitted))
    assert names(first.messages) == ["JobStarted"]
    assert decide(first.job, attempted(AttemptSubmitted), NOW).messages == ()
    started = first.messages[0]
    assert isinstance(started, JobStarted)
    assert started.provider == "fal"


BEFORE_THE_END = {
    AttemptSubmitting: attempted(AttemptSubmitting),
    AttemptProgressed: attempted(AttemptProgressed, stage="running"),
    AttemptAmbiguous: attempted(AttemptAmbiguous, message="read timeout", resolve_by=DEADLINE),
}


@pytest.mark.parametrize("event", WITHOUT_EFFECT)
@pytest.mark.parametrize(
    "before",
    [
        None,
        after(requested()).job,
        after(requested(), attempted(AttemptSubmitted)).job,
        after(requested(), CancelAsked(NOW)).job,
        after(requested(), failed(FailureKind.PROVIDER_ERROR)).job,
        after(requested(), attempted(AttemptSucceeded, artifacts=(ARTIFACT,))).job,
        after(requested(), Due(), Due(), now=OVER).job,
    ],
    ids=["unknown", "queued", "running", "cancel asked", "moved on", "succeeded", "expired"],
)
def test_an_event_before_the_end_of_an_attempt_changes_nothing(before: Job | None, event: type[AttemptEvent]) -> None:
    assert decide(before, BEFORE_THE_END[event], NOW) == Decision(before)


@pytest.mark.parametrize("silent", [{}, {"fal": NOW}], ids=["heard of", "silent"])
@pytest.mark.parametrize("inputs", [(), (attempted(AttemptSubmitted),)], ids=["queued", "running"])
def test_an_attempt_that_nobody_cancelled_goes_on_when_its_job_is_due_early(
    inputs: Sequence[Attempted], silent: Silent
) -> None:
    # Jobs that wait are made due together, and one may be given an attempt at the same moment.
    before = after(requested(), *inputs).job
    assert before is not None
    early = replace(before, next_action_at=NOW)
    assert decide(early, Due(), NOW, silent) == Decision(before)


def test_success_ends_the_job_with_the_cost_of_all_attempts() -> None:
    decision = after(
        requested(),
        failed(FailureKind.MODEL_ERROR, accepted=True, cost_usd=0.05),
        attempted(AttemptSucceeded, 2, artifacts=(ARTIFACT,), cost_usd=0.2),
    )
    (event,) = decision.messages
    assert isinstance(event, JobSucceeded)
    assert (event.provider, event.artifacts) == ("replicate", (ARTIFACT,))
    assert event.cost_usd == pytest.approx(0.25)
    assert decision.job is not None
    assert decision.job.next_action_at is None


def test_events_of_an_earlier_attempt_change_nothing() -> None:
    moved_on = after(requested(), failed(FailureKind.PROVIDER_ERROR)).job
    for late in (failed(FailureKind.PROVIDER_ERROR), attempted(AttemptSucceeded, artifacts=(ARTIFACT,))):
        assert decide(moved_on, late, NOW) == Decision(moved_on)


def test_a_final_job_never_changes() -> None:
    done = after(requested(), attempted(AttemptSucceeded, artifacts=(ARTIFACT,))).job
    for input_ in (CancelAsked(NOW), failed(FailureKind.PROVIDER_ERROR), Due(), requested()):
        assert decide(done, input_, NOW) == Decision(done)


def test_a_cancel_is_sent_once_and_waits_for_the_end_of_the_attempt() -> None:
    asked = after(requested(), CancelAsked(NOW))
    (command,) = asked.messages
    assert isinstance(command, CancelAttempt)
    assert command.reason == "client"
    assert decide(asked.job, CancelAsked(NOW), NOW).messages == ()
    assert asked.job is not None
    assert asked.job.state == "queued"


@pytest.mark.parametrize(
    ("event", "effect"),
    [
        (attempted(AttemptCancelled, may_have_cost=False), "never_sent"),
        (attempted(AttemptCancelled, may_have_cost=False, provider_ref="run"), "cancelled_free"),
        (attempted(AttemptCancelled, may_have_cost=True, provider_ref="run"), "may_have_cost"),
        (failed(FailureKind.INSUFFICIENT_BALANCE), "never_sent"),
        (failed(FailureKind.MODEL_ERROR, accepted=True), "may_have_cost"),
        (failed(FailureKind.AMBIGUOUS_SUBMISSION), "may_have_cost"),
    ],
)
def test_the_effect_of_a_cancel_says_whether_it_may_have_cost(event: Attempted, effect: str) -> None:
    decision = after(requested(), CancelAsked(NOW), event)
    (cancelled,) = decision.messages
    assert isinstance(cancelled, JobCancelled)
    assert cancelled.effect == effect


def test_a_cancel_is_repeated_until_the_attempt_ends() -> None:
    asked = after(requested(), CancelAsked(NOW)).job
    assert asked is not None
    assert asked.next_action_at == NOW + timedelta(seconds=60)
    again = decide(asked, Due(), NOW + timedelta(seconds=60))
    (command,) = again.messages
    assert isinstance(command, CancelAttempt)
    assert command.reason == "client"


def test_a_result_that_comes_before_the_cancel_is_confirmed_is_a_success() -> None:
    decision = after(requested(), CancelAsked(NOW), attempted(AttemptSucceeded, artifacts=(ARTIFACT,)))
    assert names(decision.messages) == ["JobSucceeded"]


def test_at_its_deadline_a_job_stops_its_attempt_and_then_fails() -> None:
    asked = after(requested())
    stopping = decide(asked.job, Due(), DEADLINE)
    (command,) = stopping.messages
    assert isinstance(command, CancelAttempt)
    assert command.reason == "deadline"
    over = decide(stopping.job, attempted(AttemptCancelled, may_have_cost=False), DEADLINE)
    (event,) = over.messages
    assert isinstance(event, JobFailed)
    assert event.kind is FailureKind.EXPIRED


def test_a_job_ends_though_its_adapter_sends_no_events() -> None:
    asked = after(requested())
    stopping = decide(asked.job, Due(), DEADLINE)
    assert stopping.job is not None
    assert stopping.job.next_action_at == OVER
    (event,) = decide(stopping.job, Due(), OVER).messages
    assert isinstance(event, JobFailed)
    assert event.kind is FailureKind.EXPIRED
    assert "whether attempt 1 was sent to fal is not known" in event.message
    assert [attempt.outcome for attempt in event.attempts] == ["live"]


def test_the_failure_says_that_an_accepted_run_may_continue() -> None:
    running = after(requested(), attempted(AttemptSubmitted))
    (event,) = decide(running.job, Due(), OVER).messages
    assert isinstance(event, JobFailed)
    assert "fal had accepted attempt 1, which may still run" in event.message


def test_only_the_attempt_that_was_accepted_is_said_to_be() -> None:
    moved = after(requested(), attempted(AttemptSubmitted), failed(FailureKind.PROVIDER_ERROR, accepted=True))
    (event,) = decide(moved.job, Due(), OVER).messages
    assert isinstance(event, JobFailed)
    assert "whether attempt 2 was sent to replicate is not known" in event.message
    accepted = decide(moved.job, attempted(AttemptSubmitted, 2), NOW)
    assert names(accepted.messages) == []
    (event,) = decide(accepted.job, Due(), OVER).messages
    assert isinstance(event, JobFailed)
    assert "replicate had accepted attempt 2, which may still run" in event.message


def test_the_cost_of_a_job_is_not_known_if_that_of_its_last_attempt_is_not() -> None:
    moved = after(requested(), failed(FailureKind.UNREACHABLE, cost_usd=0.0), attempted(AttemptSubmitted, 2))
    (event,) = decide(moved.job, Due(), OVER).messages
    assert isinstance(event, JobFailed)
    assert [attempt.cost_usd for attempt in event.attempts] == [0.0, None]
    assert event.cost_usd is None


def test_a_cancelled_job_whose_adapter_is_silent_is_cancelled_at_its_end() -> None:
    asked = after(requested(), CancelAsked(NOW))
    (event,) = decide(asked.job, Due(), OVER).messages
    assert isinstance(event, JobCancelled)
    assert event.effect == "may_have_cost"


@pytest.mark.parametrize(
    ("end", "outcome", "cost_usd"),
    [
        (attempted(AttemptSucceeded, artifacts=(ARTIFACT,), cost_usd=0.2), "succeeded", 0.2),
        (failed(FailureKind.PROVIDER_ERROR), "failed", 0.0),
        (attempted(AttemptCancelled, may_have_cost=False), "cancelled", 0.0),
        (attempted(AttemptCancelled, may_have_cost=True), "cancelled", None),
    ],
)
def test_a_late_end_of_an_attempt_is_recorded_and_changes_nothing_else(
    end: Attempted, outcome: str, cost_usd: float | None
) -> None:
    ended = decide(after(requested()).job, Due(), OVER).job
    assert ended is not None
    late = decide(ended, end, OVER)
    assert late.messages == ()
    assert late.job is not None
    assert [(a.outcome, a.cost_usd) for a in late.job.attempts] == [(outcome, cost_usd)]
    assert replace(late.job, attempts=ended.attempts) == ended


@pytest.mark.parametrize("kind", [FailureKind.OUTPUT_LOST, FailureKind.OUTPUT_UNUSABLE])
def test_a_lost_output_is_paid_for_again_and_the_log_has_both_costs(kind: FailureKind) -> None:
    moved = after(requested(), failed(kind, accepted=True, cost_usd=0.2))
    rerouted = next(message for message in moved.messages if isinstance(message, JobRerouted))
    assert (rerouted.cost_usd, rerouted.price_usd) == (0.2, moved.job.candidate.price_usd if moved.job else None)
    assert "the lost output cost $0.20" in describe(rerouted)
    assert "makes it again for" in describe(rerouted)


@pytest.mark.parametrize("kind", [FailureKind.OUTPUT_LOST, FailureKind.OUTPUT_UNUSABLE])
def test_a_lost_output_ends_the_job_where_its_policy_says_so(kind: FailureKind) -> None:
    ended = after(requested(lost_output_policy="fail"), failed(kind, accepted=True, cost_usd=0.2))
    (event,) = ended.messages
    assert isinstance(event, JobFailed)
    assert (event.kind, event.cost_usd) == (kind, 0.2)
    assert "lost_output_policy: fail" in event.message


@pytest.mark.parametrize("kind", [FailureKind.OUTPUT_REFUSED, FailureKind.OUTPUT_UNREADABLE, FailureKind.STORE_FAILED])
def test_an_error_of_ours_after_acceptance_starts_no_other_attempt(kind: FailureKind) -> None:
    (event,) = after(requested(), failed(kind, accepted=True, cost_usd=0.2)).messages
    assert isinstance(event, JobFailed)
    assert event.kind is kind


def test_a_request_to_fetch_an_output_again_goes_to_the_adapter_after_the_end_of_the_job() -> None:
    ended = after(requested(), failed(FailureKind.OUTPUT_REFUSED, accepted=True, cost_usd=0.2)).job
    request = CollectionRequested(
        job_id=JOB, occurred_at=NOW, tenant="default", attempt_id=attempt_id_for(JOB, 1), provider="fal"
    )
    decision = decide(ended, CollectAsked(request), OVER)
    (command,) = decision.messages
    assert isinstance(command, CollectAttempt)
    assert (decision.job, command.attempt_id) == (ended, request.attempt_id)
    assert decide(ended, CollectAsked(request.model_copy(update={"provider": "replicate"})), OVER).messages == ()


def test_past_the_deadline_no_further_provider_is_tried() -> None:
    asked = after(requested())
    late = decide(asked.job, failed(FailureKind.PROVIDER_ERROR), DEADLINE)
    (event,) = late.messages
    assert isinstance(event, JobFailed)
    assert event.kind is FailureKind.EXPIRED


def test_an_input_about_an_unknown_job_makes_no_job() -> None:
    for input_ in (CancelAsked(NOW), failed(FailureKind.PROVIDER_ERROR), Due()):
        assert decide(None, input_, NOW) == Decision(None)


def unavailable(n: int, retry_s: float = 10) -> Attempted:
    more = {"kind": FailureKind.UNAVAILABLE, "message": "unavailable", "accepted": False}
    provider = ("fal", "replicate")[(n - 1) % 2]
    return attempted(AttemptFailed, n, provider=provider, retry_at=NOW + timedelta(seconds=retry_s), **more)


def test_a_job_whose_providers_are_all_unavailable_waits_and_retries_them() -> None:
    waiting = after(requested(), unavailable(1, 20), unavailable(2, 10))
    assert waiting.messages == ()
    assert waiting.job is not None
    assert (waiting.job.state, waiting.job.live_attempt) == ("queued", None)
    assert waiting.job.next_action_at == NOW + timedelta(seconds=10)
    again = decide(waiting.job, Due(), NOW + timedelta(seconds=10))
    assert names(again.messages) == ["RunAttempt", "JobRerouted"]
    command = again.messages[0]
    assert isinstance(command, RunAttempt)
    assert (command.provider, command.n) == ("fal", 3)


def test_a_provider_that_was_not_reached_is_tried_again() -> None:
    first, second = (
        attempted(AttemptFailed, n, provider=provider, kind=kind, message="no route", accepted=False)
        for n, provider, kind in ((1, "fal", FailureKind.UNREACHABLE), (2, "replicate", FailureKind.UNREACHABLE))
    )
    waiting = after(requested(), first, second)
    assert (waiting.messages, waiting.job and waiting.job.state) == ((), "queued")
    again = decide(waiting.job, Due(), NOW + timedelta(seconds=RETRY_S))
    command = again.messages[0]
    assert isinstance(command, RunAttempt)
    assert (command.provider, command.n) == ("fal", 3)
    third = decide(again.job, unavailable(3), NOW + timedelta(seconds=RETRY_S))
    assert third.job is not None
    kept = [(each.n, each.kind) for each in third.job.attempts if each.outcome != "live"]
    assert kept == [(2, FailureKind.UNREACHABLE), (3, FailureKind.UNAVAILABLE)]


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if FAILURES[kind].undelivered])
def test_an_accepted_run_is_not_ordered_again_whatever_its_failure_is_called(kind: FailureKind) -> None:
    first, second = (
        attempted(AttemptFailed, n, provider=provider, kind=kind, message="gone", accepted=True)
        for n, provider in ((1, "fal"), (2, "replicate"))
    )
    over = after(requested(), first, second)
    assert names(over.messages) == ["JobFailed"]
    assert over.job is not None
    assert over.job.ordered == 2


def test_an_unavailable_provider_is_skipped_for_an_available_one() -> None:
    decision = after(requested(), unavailable(1))
    assert names(decision.messages) == ["RunAttempt", "JobRerouted"]


def test_a_provider_that_refused_is_not_retried_after_the_wait() -> None:
    waiting = after(requested(), failed(FailureKind.INSUFFICIENT_BALANCE), unavailable(2))
    again = decide(waiting.job, Due(), NOW + timedelta(seconds=10))
    command = again.messages[0]
    assert isinstance(command, RunAttempt)
    assert command.provider == "replicate"
    over = decide(again.job, failed(FailureKind.MODEL_ERROR, 3), NOW)
    assert names(over.messages) == ["JobFailed"]


def test_waiting_ends_with_the_deadline() -> None:
    waiting = after(requested(), unavailable(1), unavailable(2))
    over = decide(waiting.job, Due(), DEADLINE)
    (event,) = over.messages
    assert isinstance(event, JobFailed)
    assert event.kind is FailureKind.EXPIRED
    assert "unavailable" in event.message


def test_a_waiting_job_is_cancelled_at_once_without_cost() -> None:
    waiting = after(requested(), unavailable(1), unavailable(2))
    (event,) = decide(waiting.job, CancelAsked(NOW), NOW).messages
    assert isinstance(event, JobCancelled)
    assert event.effect == "never_sent"


def test_a_job_that_waits_for_long_retries_less_often_and_its_row_stays_small() -> None:
    job, now = after(requested()).job, NOW
    deadline = NOW + timedelta(days=1)
    assert job is not None
    job = replace(job, deadline_at=deadline)
    waits = []
    for n in range(1, 120):
        decision = decide(job, unavailable(n, 0), now)
        job = decision.job
        assert job is not None
        assert len(job.attempts) <= 4
        if job.live_attempt is None:
            assert job.next_action_at is not None
            waits.append((job.next_action_at - now).total_seconds())
            now = job.next_action_at
            job = decide(job, Due(), now).job
            assert job is not None
    assert waits[0] < waits[10] < waits[40]
    assert max(waits) <= 300


def test_waiting_ends_after_a_maximum_of_attempts() -> None:
    job = after(requested(), unavailable(1)).job
    assert job is not None
    worn = replace(job, ordered=1_000)
    assert names(decide(worn, unavailable(2), NOW).messages) == ["JobFailed"]


LOST = FailureKind.AMBIGUOUS_SUBMISSION


def verdict_on(provider_ref: str | None, n: int = 1, provider: Provider = "fal") -> ResolveAsked:
    verdict = ResolutionRequested(
        job_id=JOB,
        occurred_at=NOW,
        tenant="default",
        attempt_id=attempt_id_for(JOB, n),
        provider=provider,
        provider_ref=provider_ref,
    )
    return ResolveAsked(verdict)


def resubmitting() -> Requested:
    asked = requested()
    return replace(asked, request=asked.request.model_copy(update={"ambiguity_policy": "resubmit"}))


def test_a_lost_submit_ends_the_job_unless_its_policy_is_resubmit() -> None:
    held = after(requested(), failed(LOST))
    assert names(held.messages) == ["JobFailed"]
    command, rerouted = after(resubmitting(), failed(LOST)).messages
    assert isinstance(command, RunAttempt)
    assert (command.provider, command.ambiguity_policy) == ("replicate", "resubmit")
    assert isinstance(rerouted, JobRerouted)
    assert rerouted.kind is LOST


def test_after_all_others_the_provider_of_the_lost_submit_is_tried_once_more() -> None:
    story = [resubmitting(), failed(LOST), failed(FailureKind.PROVIDER_ERROR, 2)]
    command = after(*story).messages[0]
    assert isinstance(command, RunAttempt)
    assert (command.provider, command.n) == ("fal", 3)
    again = attempted(AttemptFailed, 3, provider="fal", kind=LOST, message="lost again", accepted=False)
    assert names(after(*story, again).messages) == ["JobFailed"]


def test_a_cancelled_job_is_never_submitted_again() -> None:
    (event,) = after(resubmitting(), CancelAsked(NOW), failed(LOST)).messages
    assert isinstance(event, JobCancelled)
    assert event.effect == "may_have_cost"


@pytest.mark.parametrize("story", [[requested()], [requested(), failed(LOST)]], ids=["live", "over"])
def test_a_verdict_is_passed_on_also_after_the_end_of_the_job(story: list[object]) -> None:
    before = after(*story)
    decision = decide(before.job, verdict_on("run-1"), NOW)
    (command,) = decision.messages
    assert isinstance(command, ResolveAttempt)
    assert (command.attempt_id, command.provider, command.provider_ref) == (attempt_id_for(JOB, 1), "fal", "run-1")
    assert decision.job == before.job


@pytest.mark.parametrize("verdict", [verdict_on("run-1", n=2), verdict_on("run-1", provider="replicate")])
def test_a_verdict_on_an_unknown_attempt_is_ignored(verdict: ResolveAsked) -> None:
    assert decide(after(requested()).job, verdict, NOW).messages == ()
    assert decide(None, verdict, NOW) == Decision(None)


def test_the_late_cost_of_an_earlier_attempt_is_counted() -> None:
    late = attempted(AttemptSucceeded, artifacts=(ARTIFACT,), cost_usd=0.2, late=True)
    learned = after(requested(), failed(FailureKind.NEVER_ACCEPTED, cost_usd=0.0), late)
    assert learned.messages == ()
    job = decide(learned.job, attempted(AttemptSucceeded, 2, artifacts=(ARTIFACT,), cost_usd=0.3), NOW).job
    assert job is not None
    assert job.state == "succeeded"
    assert job.cost_usd == pytest.approx(0.5)


SILENT_S = 63
FAL_SILENT: Silent = {"fal": NOW - timedelta(seconds=SILENT_S)}
BOTH_SILENT: Silent = {**FAL_SILENT, "replicate": None}
NO_WORD = f"its adapter has not been heard of for {SILENT_S} s"


def test_a_request_passes_over_a_silent_adapter_and_says_so() -> None:
    decision = decide(None, requested(), NOW, FAL_SILENT)
    accepted, command = decision.messages
    assert isinstance(command, RunAttempt)
    assert (command.provider, command.n) == ("replicate", 1)
    assert describe(accepted) == f"may go to fal, replicate; skipped fal: {NO_WORD}"
    assert decision.job is not None
    assert decision.job.remaining == (0,)


def test_a_silent_adapter_after_the_first_one_is_no_reason_to_mention_it() -> None:
    (accepted, command) = decide(None, requested(), NOW, {"replicate": None}).messages
    assert isinstance(command, RunAttempt)
    assert (command.provider, describe(accepted)) == ("fal", "may go to fal, replicate")


def test_a_job_waits_for_silent_adapters_and_goes_to_the_first_that_is_heard_of() -> None:
    waits = decide(None, requested(), NOW, BOTH_SILENT)
    assert names(waits.messages) == ["JobAccepted"]
    assert describe(waits.messages[0]).endswith(
        f"skipped fal: {NO_WORD}; skipped replicate: its adapter has never been heard of"
    )
    assert waits.job is not None
    assert (waits.job.state, waits.job.next_action_at) == ("queued", NOW + timedelta(seconds=SILENT_RETRY_S))
    still = decide(waits.job, Due(), NOW + timedelta(seconds=SILENT_RETRY_S), BOTH_SILENT)
    assert still.messages == ()
    heard = decide(still.job, Due(), NOW + timedelta(seconds=70), FAL_SILENT)
    (command,) = heard.messages
    assert isinstance(command, RunAttempt)
    assert (command.provider, command.n) == ("replicate", 1)


def test_a_job_that_no_adapter_is_heard_of_for_ends_at_its_deadline_with_the_reason() -> None:
    waits = decide(None, requested(), NOW, BOTH_SILENT).job
    (failure,) = decide(waits, Due(), DEADLINE, BOTH_SILENT).messages
    assert isinstance(failure, JobFailed)
    assert failure.kind is FailureKind.EXPIRED
    assert "skipped fal: its adapter has not been heard of for 1863 s" in failure.message
    assert "nothing was paid" in describe(failure)
    (stopped,) = decide(waits, CancelAsked(NOW), NOW, BOTH_SILENT).messages
    assert isinstance(stopped, JobCancelled)
    assert stopped.effect == "never_sent"


def test_a_failed_job_waits_for_a_silent_adapter_and_returns_to_one_that_was_passed_over() -> None:
    first = decide(None, requested(), NOW, FAL_SILENT).job
    why = {"kind": FailureKind.MODEL_ERROR, "message": "no", "accepted": True}
    over = Attempted(attempt_event(AttemptFailed, JOB, 1, 3, NOW, provider="replicate", **why))
    waits = decide(first, over, NOW, FAL_SILENT)
    assert (waits.messages, waits.job and waits.job.state) == ((), "queued")
    command, rerouted = decide(waits.job, Due(), NOW + timedelta(seconds=5)).messages
    assert isinstance(command, RunAttempt)
    assert isinstance(rerouted, JobRerouted)
    assert (command.provider, rerouted.from_provider, rerouted.to_provider) == ("fal", "replicate", "fal")


def test_a_reroute_past_a_silent_adapter_says_so() -> None:
    third = (*BOTH, candidate("fal", "fal/other"))
    first = decide(None, requested(third), NOW).job
    silent: Silent = {"replicate": NOW - timedelta(seconds=SILENT_S)}
    command, rerouted = decide(first, failed(FailureKind.MODEL_ERROR), NOW, silent).messages
    assert isinstance(command, RunAttempt)
    assert command.endpoint == "fal/other"
    assert describe(rerouted).endswith(f"skipped replicate: {NO_WORD}")


@pytest.mark.parametrize("silent", [{"replicate": NOT_ENABLED}, {"replicate": OFF}], ids=["heard of", "silent"])
def test_a_planned_provider_that_is_no_longer_enabled_is_not_ordered_from(silent: Silent) -> None:
    first = decide(None, requested(), NOW).job
    after = decide(first, failed(FailureKind.MODEL_ERROR), NOW, silent)
    assert (after.messages, after.job and after.job.live_attempt) == ((), None)
    (ended,) = decide(after.job, Due(), DEADLINE, silent).messages
    assert isinstance(ended, JobFailed)
    assert "skipped replicate: it is not enabled" in ended.message


def test_unavailable_providers_are_tried_again_at_their_time_though_another_is_silent() -> None:
    later = NOW + timedelta(seconds=200)
    waits = decide(
        decide(None, requested(), NOW, {"replicate": None}).job,
        attempted(AttemptFailed, 1, kind=FailureKind.UNAVAILABLE, message="not asked", accepted=False, retry_at=later),
        NOW,
        {"replicate": None},
    ).job
    assert waits is not None
    assert waits.next_action_at == NOW + timedelta(seconds=SILENT_RETRY_S)
    woken = decide(waits, Due(), NOW + timedelta(seconds=60), {"replicate": None})
    assert (woken.messages, woken.job and woken.job.next_action_at) == ((), NOW + timedelta(seconds=120))
    command, _ = decide(woken.job, Due(), later, {"replicate": None}).messages
    assert isinstance(command, RunAttempt)
    assert command.provider == "fal"


@pytest.mark.parametrize("started", [False, True])
def test_a_cancel_at_a_silent_adapter_ends_the_job_after_its_grace(started: bool) -> None:
    ordered = after(requested(), *([attempted(AttemptSubmitted, provider_ref="run")] if started else [])).job
    asked = decide(ordered, CancelAsked(NOW), NOW, FAL_SILENT)
    assert names(asked.messages) == ["CancelAttempt"]
    at = NOW + timedelta(seconds=CANCEL_GRACE_S)
    assert asked.job is not None
    assert asked.job.next_action_at == at
    assert names(decide(asked.job, Due(), at).messages) == ["CancelAttempt"], "it is heard of again, and asked again"
    over = decide(asked.job, Due(), at, FAL_SILENT)
    (cancelled,) = over.messages
    assert isinstance(cancelled, JobCancelled)
    assert cancelled.effect == "may_have_cost"
    assert over.job is not None
    assert over.job.final
    assert cancelled.cost_usd is None


def test_a_cancel_at_an_adapter_that_is_heard_of_waits_for_its_word_though_its_provider_is_not_enabled() -> None:
    ordered = after(requested(), attempted(AttemptSubmitted, provider_ref="run")).job
    asked = decide(ordered, CancelAsked(NOW), NOW, {"fal": NOT_ENABLED}).job
    assert asked is not None
    again = decide(asked, Due(), NOW + timedelta(seconds=CANCEL_GRACE_S), {"fal": NOT_ENABLED})
    assert names(again.messages) == ["CancelAttempt"]


def test_an_attempt_that_is_ordered_stays_at_a_silent_adapter_up_to_the_deadline() -> None:
    ordered = after(requested()).job
    asked_to_stop = decide(ordered, Due(), DEADLINE, FAL_SILENT)
    assert names(asked_to_stop.messages) == ["CancelAttempt"]
    (over,) = decide(asked_to_stop.job, Due(), OVER, FAL_SILENT).messages
    assert isinstance(over, JobFailed)
