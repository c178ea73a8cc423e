"""A decision: a job as it is now and what to publish, and the decisions that end a job. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from contracts.failures import FailureKind
from contracts.messages.base import Message
from contracts.messages.commands import CancelAttempt
from contracts.messages.jobs import (
    AttemptOutcome,
    CancelEffect,
    JobCancelled,
    JobEvent,
    JobFailed,
)
from orchestrator.decisions.job import Job


@dataclass(frozen=True, slots=True)
class Decision:
    """The job as it is now, and what to publish."""

    job: Job | None
    messages: tuple[Message, ...] = ()


def with_event(job: Job, event: type[JobEvent], now: datetime, /, **said: object) -> Decision:
    """The job one version later, with the event that reports it."""
    told = replace(job, version=job.version + 1)
    happened = event.model_validate(
        {
            "job_id": told.job_id,
            "track_id": told.track_id,
            "tenant": told.tenant,
            "occurred_at": now,
            "version": told.version,
            "status": told.state,
            **said,
        }
    )
    return Decision(told, (happened,))


def then(first: Decision, then: Decision) -> Decision:
    """The second decision after the first, with the messages of both."""
    return Decision(then.job, first.messages + then.messages)


def job_cancelled(job: Job, effect: CancelEffect, now: datetime) -> Decision:
    """It is over at its client's wish; `effect` is what that came to for its last attempt."""
    paid_before = any(attempt.cost_usd != 0 for attempt in job.attempts[:-1])
    ended = replace(job, state="cancelled", next_action_at=None)
    return with_event(
        ended, JobCancelled, now, effect="may_have_cost" if paid_before else effect, attempts=job.attempts
    )


def job_failed(job: Job, kind: FailureKind, message: str, now: datetime) -> Decision:
    """The job has failed; `message` is for people."""
    ended = replace(job, state="failed", next_action_at=None, kind=kind)
    return with_event(
        ended, JobFailed, now, kind=kind, message=message[:4000], attempts=job.attempts, cost_usd=job.cost_usd
    )


def cancel_command(
    job: Job, live: AttemptOutcome, reason: Literal["client", "deadline"], now: datetime
) -> CancelAttempt:
    """The command that asks the adapter to stop the live attempt."""
    return CancelAttempt(
        job_id=job.job_id, occurred_at=now, attempt_id=live.attempt_id, provider=live.provider, reason=reason
    )
