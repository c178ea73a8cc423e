"""`/api/jobs`: what became of requests, step by step; and stopping them."""

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
from gateway.views.jobs import log_entry
from gateway.views.schemas import JobAnswer, JobLog, JobPage

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

CANCEL_WAIT_S: Final = 5
"""How long a cancel waits for its outcome, where the client does not say."""

_MISSING = documented(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
_Prefer = Annotated[
    Prefer,
    Header(
        alias="Prefer",
        default_factory=list,
        description="`wait=N`: wait for the outcome for N seconds (5 by default, at most 60). "
        "Where too many wait already, the answer comes at once, without `Preference-Applied`.",
    ),
]


@router.get("", responses=documented(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE))
async def list_jobs(
    here: GatewayDep,
    status: JobStatus | None = None,
    provider: Provider | None = None,
    model: Annotated[Text | None, Query(max_length=200)] = None,
    cursor: CursorText = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JobPage:
    """The jobs, the newest first."""
    wanted = JobFilter(status=status, provider=provider, model=model)
    found = await here.lookup.jobs(TENANT, wanted, cursor_of(cursor), limit, here.clocks.now())
    after = cursor_text(found[-1].requested_at, found[-1].job_id) if len(found) == limit else None
    return JobPage(jobs=[here.present.job(job) for job in found], next_cursor=after)


@router.get("/{job_id}", responses=_MISSING)
async def get_job(job_id: str, here: GatewayDep) -> JobAnswer:
    """One job: its status, its attempts, its files, its cost."""
    found = await here.lookup.job(job_id, TENANT)
    return here.present.job(found.value, stale=found.stale)


@router.get("/{job_id}/logs", responses=_MISSING)
async def get_job_log(job_id: str, here: GatewayDep) -> JobLog:
    """Everything that happened to a job and its attempts, in order."""
    job, lines = await here.lookup.log(job_id, TENANT)
    return JobLog(entries=[log_entry(line, job.job_id, job.track_id) for line in lines])


@router.post(
    "/{job_id}/cancel",
    responses={202: {"model": JobAnswer, "description": "What comes of it is not known yet."}, **_MISSING},
)
async def cancel_job(
    job_id: str,
    request: Request,
    response: Response,
    here: GatewayDep,
    deadline: PublishDeadline,
    prefer: _Prefer,
) -> JobAnswer:
    """Stop a job, as far as its provider allows, and say what came of it; repeating that is harmless."""
    found = await here.lookup.job(job_id, TENANT)
    if found.value.final:
        return here.present.job(found.value, stale=found.stale, cancel=cancel_answer(found.value))
    message = CancelRequested(job_id=JobId(found.value.job_id), occurred_at=here.clocks.now(), tenant=TENANT)
    await here.publisher.publish_and_tail(message, deadline)
    asked = wait_of(prefer)
    wait_s = CANCEL_WAIT_S if asked is None else asked
    waited = await here.completion.ended(job_id, TENANT, wait_s, partial(disconnected, request))
    if asked is not None and waited.honoured:
        response.headers["Preference-Applied"] = f"wait={asked}"
    found = await here.lookup.job(job_id, TENANT)
    if not found.value.final:
        response.status_code = HTTPStatus.ACCEPTED
    return here.present.job(found.value, stale=found.stale, cancel=cancel_answer(found.value))
