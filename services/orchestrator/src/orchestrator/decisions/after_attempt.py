"""The effect of an attempt's events on its job. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from contracts.failures import FAILURES, LOST_OUTPUT, FailureKind
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
from contracts.messages.jobs import (
    AttemptOutcome,
    CancelEffect,
    JobStarted,
    JobSucceeded,
)
from orchestrator.decisions.attempt_outcomes import cancelled_fields, failure_fields, with_late_cost, with_outcome
from orchestrator.decisions.decision import Decision, job_cancelled, job_failed, with_event
from orchestrator.decisions.job import Job
from orchestrator.decisions.order_attempt import order_or_wait
from orchestrator.decisions.remaining_candidates import (
    Silent,
    no_candidate_left,
    passed_over,
    resubmitting,
    within_ceiling,
)

MOST_ATTEMPTS: Final = 1_000
WITHOUT_EFFECT: Final = (AttemptSubmitting, AttemptProgressed, AttemptAmbiguous)
"""Events that change no job, whatever its state."""


def attempted(job: Job, event: AttemptEvent, now: datetime, silent: Silent) -> Decision:
    """The decision on an event of an attempt. If it is not the live one, only its recorded cost changes."""
    live = job.live_attempt
    if live is None or live.attempt_id != event.attempt_id:
        return Decision(with_late_cost(job, event))
    match event:
        case AttemptSubmitted():
            accepted = replace(job, accepted=live.n)
            if job.state == "running":
                return Decision(accepted)
            running = replace(accepted, state="running")
            return with_event(running, JobStarted, now, attempt_id=live.attempt_id, provider=live.provider)
        case AttemptSucceeded():
            return _succeeded(job, live, event, now)
        case AttemptFailed():
            return _attempt_failed(job, live, event, now, silent)
        case AttemptCancelled():
            return _attempt_cancelled(job, live, event, now)
        case _:
            return Decision(job)


def _succeeded(job: Job, live: AttemptOutcome, event: AttemptSucceeded, now: datetime) -> Decision:
    closed = with_outcome(job, live, outcome="succeeded", cost_usd=event.cost_usd)
    return with_event(
        replace(closed, state="succeeded", next_action_at=None),
        JobSucceeded,
        now,
        attempt_id=live.attempt_id,
        provider=live.provider,
        model=event.model,
        artifacts=event.artifacts,
        cost_usd=closed.cost_usd,
    )


def _attempt_failed(job: Job, live: AttemptOutcome, event: AttemptFailed, now: datetime, silent: Silent) -> Decision:
    closed = with_outcome(job, live, **failure_fields(event))
    if job.cancel_requested:
        return job_cancelled(closed, _effect_of_failing(event), now)
    if event.kind is FailureKind.AMBIGUOUS_SUBMISSION and job.ambiguity_policy == "resubmit":
        closed = resubmitting(closed)
    elif event.kind in LOST_OUTPUT and job.lost_output_policy == "fail":
        why = f"{live.provider}: {event.message}; no other provider is paid for it (lost_output_policy: fail)"
        return job_failed(closed, event.kind, why, now)
    elif not FAILURES[event.kind].moves_on:
        return job_failed(closed, event.kind, f"{live.provider}: {event.message}", now)
    # A run that was accepted may have cost something, whatever its adapter calls the failure.
    if FAILURES[event.kind].undelivered and not event.accepted:
        closed = passed_over(closed, event, now)
    if now >= job.deadline_at:
        why = f"the deadline passed; {no_candidate_left(closed, silent, now)}"
        return job_failed(closed, FailureKind.EXPIRED, why, now)
    closed = within_ceiling(closed)
    if closed.remaining or (closed.unavailable and closed.ordered < MOST_ATTEMPTS):
        # If all of these are unavailable, or their adapters silent, the job waits for them instead of failing.
        return order_or_wait(closed, now, silent)
    return job_failed(closed, FailureKind.NO_ROUTE, no_candidate_left(closed, silent, now), now)


def _effect_of_failing(event: AttemptFailed) -> CancelEffect:
    """The effect of a cancel whose attempt failed before it was stopped."""
    # An ambiguous submit may have been accepted, and so billed.
    if event.kind is FailureKind.AMBIGUOUS_SUBMISSION:
        return "may_have_cost"
    if not event.accepted:
        return "never_sent"
    return "cancelled_free" if event.known_cost_usd == 0 else "may_have_cost"


def _attempt_cancelled(job: Job, live: AttemptOutcome, event: AttemptCancelled, now: datetime) -> Decision:
    closed = with_outcome(job, live, **cancelled_fields(event))
    if job.cancel_requested:
        never_sent = event.provider_ref is None
        effect: CancelEffect = (
            "may_have_cost" if event.may_have_cost else "never_sent" if never_sent else "cancelled_free"
        )
        return job_cancelled(closed, effect, now)
    return job_failed(closed, FailureKind.EXPIRED, "the job's deadline passed; its attempt was stopped", now)
