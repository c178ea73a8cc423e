"""`/api/jobs`: what became of requests, step by step; and stopping them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from opentelemetry import trace

from chassis.telemetry import traceparent_of
from contracts.generation import Provider, Text
from contracts.ids import JobId
from contracts.jobs import JobStatus
from contracts.requests import CancelRequested
from gateway.answers import CancelAnswer, JobAnswer, JobLog, JobPage
from gateway.context import TENANT, Here
from gateway.paging import CursorText, cursor_of, cursor_text
from gateway.present import log_entry
from gateway.problems import Problem, documented
from gateway.publishing import PUBLISH_LIMIT_S, publish_durably
from gateway.reads import JobFilter

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

_MISSING = documented(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("", responses=documented(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE))
async def list_jobs(
    here: Here,
    status: JobStatus | None = None,
    provider: Provider | None = None,
    model: Annotated[Text | None, Query(max_length=200)] = None,
    cursor: CursorText = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JobPage:
    """The jobs, the newest first."""
    wanted = JobFilter(status=status, provider=provider, model=model)
    found = await here.lookup.jobs(TENANT, wanted, cursor_of(cursor), limit, datetime.now(UTC))
    after = cursor_text(found[-1].requested_at, found[-1].job_id) if len(found) == limit else None
    return JobPage(jobs=[here.present.job(job) for job in found], next_cursor=after)


@router.get("/{job_id}", responses=_MISSING)
async def get_job(job_id: str, here: Here) -> JobAnswer:
    """One job: its status, its attempts, its files, its cost."""
    found = await here.lookup.job(job_id, TENANT)
    return here.present.job(found.value, stale=found.stale)


@router.get("/{job_id}/logs", responses=_MISSING)
async def get_job_log(job_id: str, here: Here) -> JobLog:
    """Everything that happened to a job and its attempts, in order."""
    job, lines = await here.lookup.log(job_id, TENANT)
    return JobLog(entries=[log_entry(line, job.job_id, job.track_id) for line in lines])


@router.post("/{job_id}/cancel", status_code=202, responses=_MISSING | documented(HTTPStatus.CONFLICT))
async def cancel_job(job_id: str, here: Here) -> CancelAnswer:
    """Stop a job, as far as its provider allows; the job itself says later what came of it."""
    deadline = asyncio.get_running_loop().time() + PUBLISH_LIMIT_S
    job = (await here.lookup.job(job_id, TENANT)).value
    if job.final:
        raise Problem(HTTPStatus.CONFLICT, "job-has-ended", f"the job has already ended: {job.status}")
    message = CancelRequested(job_id=JobId(job.job_id), occurred_at=datetime.now(UTC), tenant=TENANT)
    parent = traceparent_of(trace.get_current_span())
    await publish_durably(here, message, parent=parent, deadline=deadline)
    return CancelAnswer(job_id=job.job_id, status=job.status)
