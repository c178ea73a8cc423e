"""How a job's messages become what is known of it: pure, and indifferent to repeats and to the order of topics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from chassis.observability.telemetry import trace_id_of
from contracts.envelope import Envelope
from contracts.generation import Provider
from contracts.ids import AttemptId, number_of
from contracts.messages.attempts import AttemptState
from contracts.messages.base import Message
from contracts.messages.jobs import (
    AttemptOutcome,
    JobAccepted,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRerouted,
    JobStarted,
    JobSucceeded,
    ended_last,
)
from contracts.messages.requests import CancelRequested, CollectionRequested, JobRequested, ResolutionRequested
from contracts.messages.wording import in_words
from gateway.queries.model import Attempt, Job, LogLine

_STATE_OF: Final[Mapping[str, AttemptState]] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "live": "running",
}


MAX_LINES: Final = 1_000
"""Of one job's log: more than an ordinary job ever has. The read model has them all."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the tail knows of a job; `job` is None while only a wish to cancel it was seen."""

    job: Job | None
    log: tuple[LogLine, ...] = ()
    cancel_asked_at: datetime | None = None


def fold(known: Known | None, envelope: Envelope) -> Known:
    """What is known once `envelope` is known too."""
    known = known or Known(None)
    message = envelope.message
    trace_id = trace_id_of(envelope.traceparent)
    job, asked_at = known.job, known.cancel_asked_at
    match message:
        case JobRequested():
            job = _requested(job, message, trace_id)
        case CancelRequested():
            asked_at = min(asked_at or message.occurred_at, message.occurred_at)
        case JobEvent():
            job = _happened(job, message, trace_id)
    if job is not None:
        job = replace(job, cancel_asked_at=asked_at)
    return Known(job, _logged(known.log, message, envelope.event_id), asked_at)


def event_name(message_type: str) -> str:
    """What the log calls a message: `segue.job.rerouted.v1` is `job.rerouted`."""
    return message_type.removeprefix("segue.").rpartition(".v")[0] or message_type


def _requested(job: Job | None, message: JobRequested, trace_id: str | None) -> Job:
    if job is not None and job.fingerprint is not None:
        return job  # The first one counts; a repeat is the same request published again.
    asked = Job(
        job_id=message.job_id,
        track_id=message.track_id,
        tenant=message.tenant,
        status="queued",
        version=0,
        requested_at=message.occurred_at,
        updated_at=message.occurred_at,
        model=message.model,
        deadline_at=message.deadline_at,
        metadata=message.metadata,
        fingerprint=message.fingerprint,
        trace_id=trace_id,
    )
    if job is None:
        return asked
    return replace(
        job,
        requested_at=asked.requested_at,
        model=job.model or asked.model,
        deadline_at=asked.deadline_at,
        metadata=asked.metadata,
        fingerprint=asked.fingerprint,
        trace_id=asked.trace_id,
    )


def _happened(job: Job | None, event: JobEvent, trace_id: str | None) -> Job:
    if job is None:
        job = Job(
            job_id=event.job_id,
            track_id=event.track_id,
            tenant=event.tenant,
            status=event.status,
            version=0,
            requested_at=event.occurred_at,
            updated_at=event.occurred_at,
            trace_id=trace_id,
        )
    if event.version <= job.version:
        return job
    return _apply(replace(job, status=event.status, version=event.version, updated_at=event.occurred_at), event)


def _apply(job: Job, event: JobEvent) -> Job:
    at = event.occurred_at
    match event:
        case JobAccepted():
            first = event.plan[0] if event.plan else None
            return replace(
                job,
                plan=event.plan,
                deadline_at=event.deadline_at,
                model=first.model if first else job.model,
                provider=first.provider if first else None,
                # A request that came too late to be run may be followed by one that is in time.
                error_kind=None,
                error_message=None,
                outcomes=(),
                cost_usd=None,
                finished_at=None,
            )
        case JobStarted():
            started = _attempt(job, event.attempt_id, event.provider, "running", at)
            return replace(_with(job, started), provider=event.provider, started_at=at)
        case JobRerouted():
            left = _attempt(job, event.from_attempt_id, event.from_provider, "failed", at)
            left = replace(left, kind=event.kind, error_code=event.error_code, http_status=event.http_status)
            left = replace(left, message=event.message, finished_at=at)
            entered = _attempt(job, event.to_attempt_id, event.to_provider, "queued", at)
            return replace(_with(_with(job, left), entered), provider=event.to_provider)
        case JobSucceeded():
            made = _attempt(job, event.attempt_id, event.provider, "succeeded", at)
            return replace(
                _with(job, replace(made, finished_at=at)),
                provider=event.provider,
                model=event.model,
                artifacts=event.artifacts,
                artifacts_of=event.attempt_id,
                cost_usd=event.cost_usd,
                finished_at=at,
            )
        case JobFailed():
            ended = replace(job, error_kind=event.kind, error_message=event.message, outcomes=event.attempts)
            return replace(_outcomes(ended, event.attempts, at), cost_usd=event.cost_usd, finished_at=at)
        case JobCancelled():
            ended = replace(job, cancel_effect=event.effect, cost_usd=event.cost_usd)
            return replace(_outcomes(ended, event.attempts, at), finished_at=at)
        case _:
            return job


def _attempt(job: Job, attempt_id: AttemptId, provider: Provider, state: AttemptState, at: datetime) -> Attempt:
    n = number_of(attempt_id)
    known = next((attempt for attempt in job.attempts if attempt.n == n), None)
    if known is not None:
        return replace(known, state=state, updated_at=at)
    endpoint = next((route.endpoint for route in job.plan if route.provider == provider), None)
    return Attempt(n=n, provider=provider, endpoint=endpoint, state=state, updated_at=at)


def _with(job: Job, attempt: Attempt) -> Job:
    others = [each for each in job.attempts if each.n != attempt.n]
    return replace(job, attempts=tuple(sorted([*others, attempt], key=lambda each: each.n)))


def _outcomes(job: Job, outcomes: tuple[AttemptOutcome, ...], at: datetime) -> Job:
    for outcome in outcomes:
        attempt = _attempt(job, outcome.attempt_id, outcome.provider, _STATE_OF[outcome.outcome], at)
        job = _with(
            job,
            replace(
                attempt,
                kind=outcome.kind,
                error_code=outcome.error_code,
                http_status=outcome.http_status,
                message=outcome.message,
                cost_usd=outcome.cost_usd,
                finished_at=attempt.finished_at or at,
            ),
        )
    return job


def _logged(log: tuple[LogLine, ...], message: Message, event_id: str) -> tuple[LogLine, ...]:
    if any(line.event_id == event_id for line in log):
        return log
    where = _place(message)
    version = message.version if isinstance(message, JobEvent) else None
    line = LogLine(
        event_id=event_id,
        time=message.occurred_at,
        event=event_name(message.TYPE),
        message=in_words(message),
        version=version,
        **where,
    )
    return (*log[1 - MAX_LINES :], line)


def _place(message: Message) -> dict[str, Any]:
    """Where it happened, what went wrong, and which attempt's end it follows from."""
    match message:
        case JobStarted():
            return _at(message.provider, message.attempt_id)
        case JobSucceeded():
            return _at(message.provider, message.attempt_id) | {"answers_to": number_of(message.attempt_id)}
        case JobRerouted():
            failed = {"error_kind": message.kind, "error_code": message.error_code or message.kind}
            left = {"http_status": message.http_status, "answers_to": number_of(message.from_attempt_id)}
            return _at(message.to_provider, message.to_attempt_id) | failed | left
        case JobFailed():
            return {"error_kind": message.kind, "error_code": message.kind, "answers_to": ended_last(message.attempts)}
        case JobCancelled():
            return {"answers_to": ended_last(message.attempts)}
        case CollectionRequested():
            return _at(message.provider, message.attempt_id)
        case ResolutionRequested():
            return _at(message.provider, message.attempt_id) | {"provider_ref": message.provider_ref}
    return {}


def _at(provider: Provider, attempt_id: AttemptId) -> dict[str, Any]:
    return {"provider": provider, "attempt": number_of(attempt_id)}
