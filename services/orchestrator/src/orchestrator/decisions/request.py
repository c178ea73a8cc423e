"""The decision on a request. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from contracts.failures import FailureKind
from contracts.messages.jobs import JobAccepted, PlannedRoute
from contracts.messages.requests import JobRequested
from orchestrator.decisions.decision import Decision, combined, job_failed, with_event
from orchestrator.decisions.inputs import Requested
from orchestrator.decisions.job import Job
from orchestrator.decisions.order_attempt import order_or_wait
from orchestrator.decisions.remaining_candidates import Silent, skipped_silent


def requested(job: Job | None, asked: Requested, now: datetime, silent: Silent) -> Decision:
    """Order the first attempt of a request, unless the request is late, is a repeat, or has no route."""
    request = asked.request
    in_time = asked.arrived_at <= request.accept_by
    may_run = in_time and now < request.deadline_at
    if job is not None and not (may_run and job.fingerprint == request.fingerprint and _may_be_revived(job, request)):
        return Decision(job)
    new = Job(
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
        revived_at=request.occurred_at if job else None,
    )
    if not may_run:
        late = "acceptance deadline" if not in_time else "deadline"
        return job_failed(new, FailureKind.EXPIRED, f"the request arrived after its {late}; nothing was sent", now)
    planned = tuple(
        PlannedRoute(
            provider=candidate.provider,
            model=candidate.model,
            endpoint=candidate.endpoint,
            substitute=candidate.substitute,
        )
        for candidate in new.candidates
    )
    plan = {"plan": planned, "skipped": (*new.skipped, *skipped_silent(new, silent, now)), "because": asked.because}
    accepted = with_event(replace(new, planned=True), JobAccepted, now, **plan, deadline_at=new.deadline_at)
    if accepted.job is None or not new.candidates:
        return combined(accepted, job_failed(accepted.job or new, FailureKind.NO_ROUTE, _no_route(asked), now))
    return combined(accepted, order_or_wait(accepted.job, now, silent))


def _may_be_revived(job: Job, request: JobRequested) -> bool:
    """Whether the request becomes the job anew. One that was made while an accepted job lived asked for that job."""
    if job.kind is not FailureKind.EXPIRED or job.attempts:
        return False
    # The client of a late request was asked to repeat it: the repeat becomes the job, since the late one never ran.
    return not job.planned or request.occurred_at >= job.deadline_at


def _no_route(asked: Requested) -> str:
    reasons = "; ".join(f"{route.provider} {route.endpoint}: {route.reason}" for route in asked.skipped)
    return asked.problem or f"no provider can do what was asked: {reasons or 'no route is left'}"
