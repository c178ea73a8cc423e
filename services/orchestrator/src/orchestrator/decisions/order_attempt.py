"""Orders an attempt at the next candidate. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from contracts.ids import attempt_id_for
from contracts.messages.commands import RunAttempt
from contracts.messages.jobs import AttemptOutcome, JobRerouted
from orchestrator.decisions.decision import Decision, with_event
from orchestrator.decisions.job import Job
from orchestrator.decisions.remaining_candidates import Silent, next_heard, skipped_silent, waiting


def order_or_wait(job: Job, now: datetime, silent: Silent) -> Decision:
    """Order the next attempt at the first remaining candidate whose adapter is not silent; without one, the job waits.

    A candidate that is passed over stays among the remaining ones. The job must have remaining or unavailable ones.
    """
    current = next_heard(job, silent)
    if current is None:
        return Decision(waiting(job, now))
    return _reroute(job, current, now, silent) if job.attempts else _order(job, current, now)


def _order(job: Job, current: int, now: datetime) -> Decision:
    n = job.ordered + 1
    at = job.remaining.index(current)
    candidate = job.candidates[current]
    attempt_id = attempt_id_for(job.job_id, n)
    live = AttemptOutcome(attempt_id=attempt_id, n=n, provider=candidate.provider, outcome="live")
    command = RunAttempt(
        job_id=job.job_id,
        occurred_at=now,
        attempt_id=attempt_id,
        provider=candidate.provider,
        track_id=job.track_id,
        n=n,
        model=candidate.model,
        endpoint=candidate.endpoint,
        arguments=dict(candidate.arguments),
        modality=candidate.modality,
        start_within_s=candidate.start_within_s,
        run_within_s=candidate.run_within_s,
        price_usd=candidate.price_usd,
        deadline_at=job.deadline_at,
        ambiguity_policy=job.ambiguity_policy,
        lost_output_policy=job.lost_output_policy,
    )
    ordered = replace(
        job,
        ordered=n,
        attempts=(*job.attempts, live),
        current=current,
        remaining=(*job.remaining[:at], *job.remaining[at + 1 :]),
        next_action_at=job.deadline_at,
    )
    return Decision(ordered, (command,))


def _reroute(job: Job, current: int, now: datetime, silent: Silent) -> Decision:
    """Order the next attempt, with an event that reports the old and the new provider."""
    last = job.attempts[-1]
    ordered = _order(replace(job, unreported=()), current, now)
    live = ordered.job.live_attempt if ordered.job else None
    if ordered.job is None or live is None:
        return ordered
    rerouted = with_event(
        ordered.job,
        JobRerouted,
        now,
        from_attempt_id=last.attempt_id,
        from_provider=last.provider,
        to_attempt_id=live.attempt_id,
        to_provider=live.provider,
        kind=last.kind,
        error_code=last.error_code,
        message=last.message,
        http_status=last.http_status,
        skipped=(*job.unreported, *skipped_silent(job, silent, now)),
        cost_usd=last.cost_usd,
        price_usd=ordered.job.candidate.price_usd,
    )
    return Decision(rerouted.job, ordered.messages + rerouted.messages)
