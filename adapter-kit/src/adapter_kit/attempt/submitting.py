"""Queued and submitting: the attempt before the provider has answered its POST. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

from adapter_kit.attempt.actions import Post
from adapter_kit.attempt.ambiguous import answer_lost
from adapter_kit.attempt.inputs import (
    HeldBack,
    ShutOut,
    SubmitAnswered,
)
from adapter_kit.attempt.model import (
    Attempt,
    Step,
    backoff_s,
    cancelled,
    failed,
    with_event,
    with_lease,
)
from adapter_kit.attempt.running import accepted
from adapter_kit.attempt.states import Ambiguous, Queued, Submitting
from adapter_kit.port.outcomes import (
    Accepted,
    CallbackRefused,
    Failure,
    NotSent,
    Refused,
    Throttled,
    Unclear,
)
from contracts.failures import FailureKind
from contracts.messages.attempts import (
    AttemptProgressed,
    AttemptSubmitting,
)

NOT_SENT_TRIES: Final = 3
LONGEST_RETRY_S: Final = 86_400.0
THROTTLE_BUDGET_S: Final = 20.0
"""How long an attempt is retried after throttling, in seconds from its creation, before it fails over."""


def submit(attempt: Attempt, now: datetime) -> Step:
    """Enter `submitting`, with the POST as the action; or fail as `expired` if the deadline has passed."""
    if now >= attempt.deadline_at:
        return failed(attempt, Failure(FailureKind.EXPIRED, "the job's deadline passed before it was sent"), now)
    submission = attempt.submissions + 1
    submitting = replace(
        attempt,
        state=Submitting(now),
        submissions=submission,
        submit_started_at=now,
    )
    return with_event(with_lease(submitting, now), AttemptSubmitting, now, Post(submission))


def not_admitted(attempt: Attempt, verdict: HeldBack | ShutOut, now: datetime) -> Step:
    """A limit delays the attempt up to its start deadline, after which it fails; an open breaker fails it at once."""
    if isinstance(verdict, ShutOut):
        asked = "not asked again" if attempt.submissions else "not asked"
        shut_out = Failure(FailureKind.UNAVAILABLE, f"{asked}, since it said before: {verdict.reason}")
        return failed(attempt, shut_out, now, retry_at=verdict.until)
    if now >= attempt.created_at + timedelta(seconds=attempt.start_within_s):
        waited = Failure(FailureKind.RATE_LIMITED, f"not sent within {attempt.start_within_s:g} s: {verdict.reason}")
        return failed(attempt, waited, now)
    give_up_at = attempt.created_at + timedelta(seconds=attempt.start_within_s)
    held = replace(
        attempt, next_action_at=min(verdict.until, give_up_at, attempt.deadline_at), throttling_reported=True
    )
    if attempt.throttling_reported:
        return Step(held)
    return with_event(held, AttemptProgressed, now, stage="throttled", message=verdict.reason)


def submit_answered(attempt: Attempt, state: Submitting | Ambiguous, answer: SubmitAnswered, now: datetime) -> Step:
    """The outcome of a POST. An outcome of an earlier submission changes nothing."""
    if answer.submission != attempt.submissions:
        return Step(attempt)
    match answer.outcome:
        case Accepted(ref):
            return accepted(attempt, ref, now)
        case Refused(failure):
            return failed(attempt, failure, now)
        case Throttled(failure, retry_after_s):
            return _throttled(attempt, failure, retry_after_s, now)
        case NotSent(reason, held_up):
            return _not_sent(attempt, reason, now, held_up=held_up)
        case CallbackRefused(failure):
            return _without_callback(attempt, failure, now)
        case Unclear(reason, answered):
            if isinstance(state, Ambiguous):
                return Step(attempt)
            return answer_lost(attempt, state, reason, now, answered=answered)
        case _:
            assert_never(answer.outcome)


def _throttled(attempt: Attempt, failure: Failure, retry_after_s: float | None, now: datetime) -> Step:
    tries = attempt.tries + 1
    wait_s = retry_after_s if retry_after_s is not None else backoff_s(attempt.attempt_id, tries)
    again = now + timedelta(seconds=min(wait_s, LONGEST_RETRY_S))
    if again > min(attempt.created_at + timedelta(seconds=THROTTLE_BUDGET_S), attempt.deadline_at):
        return failed(attempt, replace(failure, kind=FailureKind.RATE_LIMITED), now)
    return _back_to_queue(attempt, tries, again, "throttled", failure.message, now)


def _without_callback(attempt: Attempt, failure: Failure, now: datetime) -> Step:
    """Submit again without the callback URL that the provider refused; without one, the refusal is final."""
    if not attempt.expects_callback:
        return failed(attempt, failure, now)
    message = f"{attempt.provider} would not take our address for callbacks; sent again without one: {failure.message}"
    polled = replace(attempt, expects_callback=False)
    return _back_to_queue(polled, attempt.tries, now, "throttled", message, now)


def _not_sent(attempt: Attempt, reason: str, now: datetime, *, held_up: bool) -> Step:
    tries = attempt.tries + (0 if held_up else 1)
    if tries >= NOT_SENT_TRIES:
        return failed(attempt, Failure(FailureKind.UNREACHABLE, reason), now)
    again = now + timedelta(seconds=backoff_s(attempt.attempt_id, tries) / 4)
    return _back_to_queue(attempt, tries, again, "unreachable", reason, now)


def _back_to_queue(
    attempt: Attempt,
    tries: int,
    again: datetime,
    stage: Literal["throttled", "unreachable"],
    message: str,
    now: datetime,
) -> Step:
    if attempt.state.cancel_reason is not None:
        return cancelled(attempt, now, may_have_cost=False)
    queued = replace(attempt, state=Queued(), tries=tries, next_action_at=again)
    return with_event(queued, AttemptProgressed, now, stage=stage, message=message)
