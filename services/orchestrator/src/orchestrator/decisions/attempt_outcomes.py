"""What a job remembers of its attempts, and how that changes when one of them ends. Pure."""

from __future__ import annotations

from dataclasses import replace

from contracts.messages.attempts import AttemptCancelled, AttemptEvent, AttemptFailed, AttemptSucceeded
from contracts.messages.jobs import AttemptOutcome
from orchestrator.decisions.job import Job


def with_outcome(job: Job, live: AttemptOutcome, **how: object) -> Job:
    """The job whose live attempt has ended; `how` are fields of its outcome."""
    return replace(job, attempts=(*job.attempts[:-1], live.model_copy(update=how)))


def how_it_failed(event: AttemptFailed) -> dict[str, object]:
    """The fields of the outcome of an attempt that failed."""
    return {
        "outcome": "failed",
        "kind": event.kind,
        "error_code": event.error_code,
        "http_status": event.http_status,
        "message": event.message,
        "cost_usd": event.known_cost_usd,
    }


def learned(job: Job, event: AttemptEvent) -> Job:
    """An attempt that the job has left may yet turn out to have cost something."""
    if not isinstance(event, AttemptSucceeded | AttemptFailed) or not event.late:
        return job
    costs = {event.attempt_id: event.cost_usd}
    attempts = (a.model_copy(update={"cost_usd": costs.get(a.attempt_id, a.cost_usd)}) for a in job.attempts)
    return replace(job, attempts=tuple(attempts))


def after_the_end(job: Job, event: AttemptEvent) -> Job:
    """What an attempt says after its job has ended changes what is known of the attempt, and nothing else."""
    live = job.live_attempt
    if live is None or live.attempt_id != event.attempt_id:
        return learned(job, event)
    match event:
        case AttemptSucceeded():
            return with_outcome(job, live, outcome="succeeded", cost_usd=event.cost_usd)
        case AttemptFailed():
            return with_outcome(job, live, **how_it_failed(event))
        case AttemptCancelled():
            return with_outcome(job, live, outcome="cancelled", cost_usd=None if event.may_have_cost else 0.0)
        case _:
            return job
