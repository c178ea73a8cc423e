"""The outcomes of attempts that a job records, and their changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from contracts.generation import Provider
from contracts.messages.attempts import AttemptCancelled, AttemptEvent, AttemptFailed, AttemptSucceeded
from contracts.messages.jobs import AttemptOutcome
from orchestrator.decisions.job import Job

MOST_COST_USD: Final = 1_000_000.0
"""No attempt costs more; a message that says so, or infinity, would spoil every sum that it is part of."""


def with_outcome(job: Job, live: AttemptOutcome, **how: object) -> Job:
    """The job with the end of its live attempt recorded; `how` are the changed fields of the outcome."""
    return replace(job, attempts=(*job.attempts[:-1], live.model_copy(update=how)))


def failure_fields(event: AttemptFailed) -> dict[str, object]:
    """The fields of the outcome of an attempt that failed."""
    return {
        "outcome": "failed",
        "kind": event.kind,
        "error_code": event.error_code,
        "http_status": event.http_status,
        "message": event.message,
        "cost_usd": event.known_cost_usd,
    }


def cancelled_fields(event: AttemptCancelled) -> dict[str, object]:
    """The fields of the outcome of an attempt that was cancelled."""
    return {"outcome": "cancelled", "message": event.message, "cost_usd": _cost_of_cancelled(event)}


def with_late_cost(job: Job, event: AttemptEvent) -> Job:
    """The job with the cost of an earlier attempt that a late event reports; unchanged for other events."""
    match event:
        case AttemptSucceeded(late=True) | AttemptFailed(late=True):
            cost_usd = event.cost_usd
        case AttemptCancelled(late=True):
            cost_usd = _cost_of_cancelled(event)
        case _:
            return job
    costs = {event.attempt_id: cost_usd}
    attempts = (a.model_copy(update={"cost_usd": costs.get(a.attempt_id, a.cost_usd)}) for a in job.attempts)
    return replace(job, attempts=tuple(attempts))


def newly_known_costs(before: Job | None, job: Job) -> Mapping[Provider, float]:
    """What has become known of the cost of attempts between two states of a job, in USD, by provider."""
    if before is None or before.attempts == job.attempts:
        return {}
    known = {attempt.attempt_id: attempt.cost_usd or 0.0 for attempt in before.attempts}
    learned: dict[Provider, float] = {}
    for attempt in job.attempts:
        more = (attempt.cost_usd or 0.0) - known.get(attempt.attempt_id, 0.0)
        if 0 < more <= MOST_COST_USD:
            learned[attempt.provider] = learned.get(attempt.provider, 0.0) + more
    return learned


def after_job_ended(job: Job, event: AttemptEvent) -> Job:
    """The job with an attempt's outcome that is reported after the job has ended; nothing else changes."""
    live = job.live_attempt
    if live is None or live.attempt_id != event.attempt_id:
        return with_late_cost(job, event)
    match event:
        case AttemptSucceeded():
            return with_outcome(job, live, outcome="succeeded", cost_usd=event.cost_usd)
        case AttemptFailed():
            return with_outcome(job, live, **failure_fields(event))
        case AttemptCancelled():
            return with_outcome(job, live, **cancelled_fields(event))
        case _:
            return job


def _cost_of_cancelled(event: AttemptCancelled) -> float | None:
    return None if event.may_have_cost else 0.0
