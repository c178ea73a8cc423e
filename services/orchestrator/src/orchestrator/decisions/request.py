"""What becomes of a request. Pure."""

from __future__ import annotations

from datetime import datetime

from contracts.failures import FailureKind
from contracts.messages.jobs import (
    JobAccepted,
    PlannedRoute,
)
from orchestrator.decisions.decision import Decision, job_failed, then, with_event
from orchestrator.decisions.inputs import Requested
from orchestrator.decisions.job import Job
from orchestrator.decisions.order_attempt import order_next


def requested(job: Job | None, asked: Requested, now: datetime) -> Decision:
    """A request arrived: its first attempt is ordered, unless it is too late, is known, or has no route."""
    request = asked.request
    in_time = asked.arrived_at <= request.accept_by
    # The client of a request that came too late was told to repeat it: the repeat is the job, the late one never ran.
    never_ran = job is not None and job.kind is FailureKind.EXPIRED and not job.attempts
    if job is not None and not (never_ran and in_time and job.fingerprint == request.fingerprint):
        return Decision(job)
    fresh = Job(
        job_id=request.job_id,
        track_id=request.track_id,
        tenant=request.tenant,
        fingerprint=request.fingerprint,
        deadline_at=request.deadline_at,
        created_at=now,
        ambiguity_policy=request.ambiguity_policy,
        lost_output_policy=request.lost_output_policy,
        candidates=asked.candidates,
        remaining=tuple(range(len(asked.candidates))),
        skipped=asked.skipped,
        max_cost_usd=asked.max_cost_usd,
        version=job.version if job else 0,
        next_action_at=request.deadline_at,
    )
    if not in_time or now >= request.deadline_at:
        late = "acceptance deadline" if not in_time else "deadline"
        return job_failed(fresh, FailureKind.EXPIRED, f"the request arrived after its {late}; nothing was sent", now)
    planned = tuple(
        PlannedRoute(
            provider=candidate.provider,
            model=candidate.model,
            endpoint=candidate.endpoint,
            substitute=candidate.substitute,
        )
        for candidate in fresh.candidates
    )
    where = {"plan": planned, "skipped": fresh.skipped, "because": asked.because}
    accepted = with_event(fresh, JobAccepted, now, **where, deadline_at=fresh.deadline_at)
    if accepted.job is None or not fresh.candidates:
        return then(accepted, job_failed(accepted.job or fresh, FailureKind.NO_ROUTE, _no_route(asked), now))
    return then(accepted, order_next(accepted.job, now))


def _no_route(asked: Requested) -> str:
    reasons = "; ".join(f"{route.provider} {route.endpoint}: {route.reason}" for route in asked.skipped)
    return asked.problem or f"no provider can do what was asked: {reasons or 'no route is left'}"
