"""Operators' requests about an attempt, as commands to its adapter. Pure."""

from __future__ import annotations

from contracts.ids import AttemptId
from contracts.messages.commands import CollectAttempt, ResolveAttempt
from contracts.messages.requests import CollectionRequested, ResolutionRequested
from orchestrator.decisions.job import Job


def resolve_command(job: Job | None, request: ResolutionRequested) -> ResolveAttempt | None:
    """The command that resolves a submit whose answer was lost; None if the job has no such attempt."""
    if not _has(job, request.attempt_id, request.provider):
        return None
    return ResolveAttempt(
        job_id=request.job_id,
        occurred_at=request.occurred_at,
        attempt_id=request.attempt_id,
        provider=request.provider,
        provider_ref=request.provider_ref,
    )


def collect_command(job: Job | None, request: CollectionRequested) -> CollectAttempt | None:
    """The command to fetch an output again; None if the job has no such attempt."""
    if not _has(job, request.attempt_id, request.provider):
        return None
    return CollectAttempt(
        job_id=request.job_id,
        occurred_at=request.occurred_at,
        attempt_id=request.attempt_id,
        provider=request.provider,
    )


def _has(job: Job | None, attempt_id: AttemptId, provider: str) -> bool:
    return job is not None and any((a.attempt_id, a.provider) == (attempt_id, provider) for a in job.attempts)
