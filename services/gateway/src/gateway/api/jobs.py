"""`/api/jobs`: jobs, their logs, and cancelling them."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response

from contracts.generation import Provider
from contracts.ids import JobId
from contracts.messages.jobs import JobStatus
from contracts.messages.requests import CancelRequested
from contracts.modalities.fields import Text
from gateway.context import TENANT, GatewayDep, PublishDeadline
from gateway.http.bodies import disconnected
from gateway.http.pagination import CursorText, cursor_of, cursor_text
from gateway.http.prefer import Prefer, wait_of
from gateway.http.problem_document import documented
from gateway.queries.read_model_sql import JobFilter
from gateway.views.cancellation import cancel_answer
from gateway.views.schemas import JobAnswer, JobLog, JobPage

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

CANCEL_WAIT_S: Final = 5
"""Seconds that a cancellation waits for its outcome by default."""

_NOT_FOUND = documented(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
_AT_ONCE = "If too many requests wait already, the response is immediate, without `Preference-Applied`."
_PreferEnd = Annotated[
    Prefer,
    Header(
        alias="Prefer",
        default_factory=list,
        description=f"`wait=N`: wait up to N seconds (at most 60) for the job to end. {_AT_ONCE}",
    ),
]
_PreferOutcome = Annotated[
    Prefer,
    Header(
        alias="Prefer",
        default_factory=list,
        description=f"`wait=N`: wait up to N seconds for the outcome (5 by default, at most 60). {_AT_ONCE}",
    ),
]


@router.get("", responses=documented(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE))
async def list_jobs(
    gateway: GatewayDep,
    status: JobStatus | None = None,
    provider: Provider | None = None,
    model: Annotated[Text | None, Query(max_length=200)] = None,
    cursor: CursorText = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JobPage:
    """List jobs, newest first."""
    wanted = JobFilter(status=status, provider=provider, model=model)
    page = await gateway.lookup.jobs(TENANT, wanted, cursor_of(cursor), limit, gateway.clocks.now())
    return JobPage(jobs=[gateway.present.job(job) for job in page.items], next_cursor=cursor_text(page.after))


@router.get("/{job_id}", responses=_NOT_FOUND)
async def get_job(
    job_id: str, gateway: GatewayDep, request: Request, response: Response, prefer: _PreferEnd
) -> JobAnswer:
    """Get one job: its status, attempts, files and cost."""
    if wait_s := wait_of(prefer):
        waited = await gateway.completion.ended(job_id, TENANT, wait_s, partial(disconnected, request))
        if waited.honoured:
            response.headers["Preference-Applied"] = f"wait={wait_s}"
        if waited.job is not None:
            return gateway.present.job(waited.job)
    found = await gateway.lookup.job(job_id, TENANT)
    return gateway.present.job(found.value, stale=found.stale)


@router.get("/{job_id}/logs", responses=_NOT_FOUND)
async def get_job_log(job_id: str, gateway: GatewayDep) -> JobLog:
    """List all events of a job and its attempts, in causal order."""
    job, lines = await gateway.lookup.log(job_id, TENANT)
    return gateway.present.log(job, lines)


@router.post(
    "/{job_id}/cancel",
    responses={202: {"model": JobAnswer, "description": "The outcome is not known yet."}, **_NOT_FOUND},
)
async def cancel_job(
    job_id: str,
    request: Request,
    response: Response,
    gateway: GatewayDep,
    deadline: PublishDeadline,
    prefer: _PreferOutcome,
) -> JobAnswer:
    """Cancel a job, as far as its provider allows, and get the effect. Repeating the call is harmless."""
    found = await gateway.lookup.job(job_id, TENANT)
    if found.value.final:
        return gateway.present.job(found.value, stale=found.stale, cancel=cancel_answer(found.value))
    message = CancelRequested(job_id=JobId(found.value.job_id), occurred_at=gateway.clocks.now(), tenant=TENANT)
    await gateway.publisher.publish_and_tail(message, deadline)
    preferred = wait_of(prefer)
    wait_s = CANCEL_WAIT_S if preferred is None else preferred
    waited = await gateway.completion.ended(job_id, TENANT, wait_s, partial(disconnected, request))
    if preferred is not None and waited.honoured:
        response.headers["Preference-Applied"] = f"wait={preferred}"
    found = await gateway.lookup.job(job_id, TENANT)
    if not found.value.final:
        response.status_code = HTTPStatus.ACCEPTED
    return gateway.present.job(found.value, stale=found.stale, cancel=cancel_answer(found.value))
