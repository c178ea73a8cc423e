"""Orders an attempt at the next candidate. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from contracts.ids import attempt_id_for
from contracts.messages.commands import RunAttempt
from contracts.messages.jobs import AttemptOutcome, JobRerouted
from orchestrator.decisions.decision import Decision, with_event
from orchestrator.decisions.job import Job


def order_next(job: Job, now: datetime) -> Decision:
    """Order an attempt at the first of the remaining candidates."""
    n = job.ordered + 1
    current, *remaining = job.remaining
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
        remaining=tuple(remaining),
        next_action_at=job.deadline_at,
    )
    return Decision(ordered, (command,))


def reroute(job: Job, now: datetime) -> Decision:
    """Order the next attempt, with an event that reports the old and the new provider."""
    last = job.attempts[-1]
    ordered = order_next(replace(job, unreported=()), now)
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
        skipped=job.unreported,
        cost_usd=last.cost_usd,
        price_usd=ordered.job.candidate.price_usd,
    )
    return Decision(rerouted.job, ordered.messages + rerouted.messages)
