"""A decision: the new state of a job and the messages to publish. Pure."""

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
    """The new state of a job, None if there is no job, and the messages to publish."""

    job: Job | None
    messages: tuple[Message, ...] = ()


def with_event(job: Job, event: type[JobEvent], now: datetime, /, **fields: object) -> Decision:
    """The job with its version increased, and an event about it; `fields` are the event's own fields."""
    job = replace(job, version=job.version + 1)
    message = event.model_validate(
        {
            "job_id": job.job_id,
            "track_id": job.track_id,
            "tenant": job.tenant,
            "occurred_at": now,
            "version": job.version,
            "status": job.state,
            **fields,
        }
    )
    return Decision(job, (message,))


def combined(first: Decision, second: Decision) -> Decision:
    """The job of the second decision, with the messages of both."""
    return Decision(second.job, first.messages + second.messages)


def job_cancelled(job: Job, effect: CancelEffect, now: datetime) -> Decision:
    """The job is cancelled; `effect` is the effect on its last attempt."""
    paid_before = any(attempt.cost_usd != 0 for attempt in job.attempts[:-1])
    ended = replace(job, state="cancelled", next_action_at=None)
    return with_event(
        ended, JobCancelled, now, effect="may_have_cost" if paid_before else effect, attempts=job.attempts
    )


def job_failed(job: Job, kind: FailureKind, message: str, now: datetime) -> Decision:
    """The job has failed; `message` is the reason, cut to 4000 characters."""
    ended = replace(job, state="failed", next_action_at=None, kind=kind)
    return with_event(
        ended, JobFailed, now, kind=kind, message=message[:4000], attempts=job.attempts, cost_usd=job.cost_usd
    )


def cancel_command(
    job: Job, live: AttemptOutcome, reason: Literal["client", "deadline"], now: datetime
) -> CancelAttempt:
    """The command to the adapter to stop the live attempt."""
    return CancelAttempt(
        job_id=job.job_id, occurred_at=now, attempt_id=live.attempt_id, provider=live.provider, reason=reason
    )
