"""`/api/jobs/{id}/artifacts/{name}`: the files, from Segue's own store, fit for players and harmless to browsers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import Headers

from chassis.artifacts import STORE_ERRORS, artifact_key
from chassis.observability.logs import get_logger
from contracts.ids import JobId, attempt_id_for
from contracts.messages.attempts import Artifact
from gateway.context import TENANT, GatewayDep
from gateway.http.conditional import asked_range, byte_range, precondition
from gateway.http.problem_document import Problem, Responses, documented
from gateway.log_events import GatewayEvent
from gateway.queries.errors import NotFound
from gateway.queries.model import Job, StoredArtifact

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

_MEDIA: Final = re.compile(r"(audio|image|video)/[a-z0-9][a-z0-9.+-]{0,80}")
_SCRIPTED: Final = re.compile(r"svg|xml|html")
_SHOWN: Final = frozenset(
    (
        *("audio/mpeg", "audio/mp4", "audio/aac", "audio/wav", "audio/flac", "audio/ogg", "audio/webm"),
        *("video/mp4", "video/webm", "video/ogg", "video/quicktime"),
        *("image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "image/bmp"),
    )
)
"""What browsers play and show by themselves, and run nothing of; all else is offered for download alone."""
_Attempt = Annotated[int | None, Query(ge=1, le=9999, description="Of a file that came late: its attempt.")]
_BINARY: Final[dict[str, Any]] = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
_TOLD: Final[Responses] = {
    200: {"description": "Its type, size and ETag."},
    304: {"description": "Unchanged since an ETag in If-None-Match."},
    **documented(
        HTTPStatus.NOT_FOUND,
        HTTPStatus.GONE,
        HTTPStatus.PRECONDITION_FAILED,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
}
_ANSWERS: Final[Responses] = {
    **_TOLD,
    200: {"description": "The file.", **_BINARY},
    206: {"description": "The part of it that Range asked for.", **_BINARY},
    **documented(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
}


@router.get(
    "/{job_id}/artifacts/{name}",
    response_class=StreamingResponse,
    responses=_ANSWERS,
)
async def get_artifact(
    job_id: str,
    name: str,
    request: Request,
    here: GatewayDep,
    attempt: _Attempt = None,
) -> Response:
    """One file that a job made."""
    job = (await here.lookup.job(job_id, TENANT)).value
    artifact, attempt_id = _find(job, name, attempt)
    headers = headers_of(artifact)
    if _is_known(request.headers, headers["ETag"], artifact.name):
        return _not_modified(headers)
    part = _part_of(request.headers, headers["ETag"], artifact.size_bytes)
    start, end = part or (0, artifact.size_bytes)
    headers["Content-Length"] = str(end - start)
    status = HTTPStatus.OK
    if part is not None:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size_bytes}"
    with _asking_the_store(job_id, name):
        key = artifact_key(job.job_id, attempt_id, artifact.name)
        content = await here.store.get(key, start, end if part else None)
    return StreamingResponse(content, status, headers=headers)


@router.head("/{job_id}/artifacts/{name}", response_class=Response, responses=_TOLD)
async def head_artifact(
    job_id: str, name: str, request: Request, here: GatewayDep, attempt: _Attempt = None
) -> Response:
    """What one file is, without the file: a Range makes no difference to it."""
    job = (await here.lookup.job(job_id, TENANT)).value
    artifact, attempt_id = _find(job, name, attempt)
    headers = headers_of(artifact)
    if _is_known(request.headers, headers["ETag"], artifact.name):
        return _not_modified(headers)
    with _asking_the_store(job_id, name):
        size = await here.store.head(artifact_key(job.job_id, attempt_id, artifact.name))
    return Response(headers=headers | {"Content-Length": str(size)})


def _is_known(headers: Headers, etag: str, name: str) -> bool:
    """Whether the client has the file. Raises Problem if it wants another one than this."""
    told = precondition(headers, etag)
    if told is HTTPStatus.PRECONDITION_FAILED:
        detail = f"{name} has the ETag {etag}, which is none of those in If-Match"
        raise Problem(told, "precondition-failed", detail, headers={"ETag": etag})
    return told is HTTPStatus.NOT_MODIFIED


def _not_modified(headers: dict[str, str]) -> Response:
    # What a cache keeps with the file is told again (RFC 9110 section 15.4.5).
    return Response(
        status_code=HTTPStatus.NOT_MODIFIED, headers={name: headers[name] for name in ("ETag", "Cache-Control")}
    )


def _part_of(headers: Headers, etag: str, size: int) -> tuple[int, int] | None:
    try:
        return byte_range(asked_range(headers, etag), size)
    except ValueError as error:
        raise Problem(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "range-not-satisfiable",
            str(error),
            headers={"Content-Range": f"bytes */{size}"},
        ) from None


def _find(job: Job, name: str, n: int | None) -> tuple[StoredArtifact, str]:
    if n is None:
        found, attempt_id = job.artifacts, job.artifacts_of
    else:
        late = (attempt.late_artifacts for attempt in job.attempts if attempt.n == n)
        found, attempt_id = next(late, ()), attempt_id_for(JobId(job.job_id), n)
    artifact = next((each for each in found if each.name == name), None)
    if artifact is None or attempt_id is None:
        raise NotFound("artifact", name)
    if artifact.expired_at is not None:
        raise _gone(artifact, artifact.expired_at)
    return artifact, attempt_id


def headers_of(artifact: Artifact) -> dict[str, str]:
    """How a file is served: as what it is, and so that no browser takes it for something else or runs it."""
    kind, shown = artifact.content_type, artifact.content_type in _SHOWN
    # Whatever a file is called, it is not called anything of which a browser would run what is in it.
    media = _MEDIA.fullmatch(kind) is not None and _SCRIPTED.search(kind) is None
    return {
        "Content-Type": kind if media else "application/octet-stream",
        "Content-Disposition": f'{"inline" if shown else "attachment"}; filename="{artifact.name}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "ETag": f'"{artifact.sha256}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Accept-Ranges": "bytes",
    }


@contextmanager
def _asking_the_store(job_id: str, name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        get_logger("gateway").error(GatewayEvent.ARTIFACT_MISSING, job_id=job_id, name=name)
        raise NotFound("artifact", name) from None
    except STORE_ERRORS as error:
        get_logger("gateway").warning(GatewayEvent.ARTIFACT_STORE_UNAVAILABLE, job_id=job_id, error=repr(error))
        raise _store_away() from error


def _gone(artifact: StoredArtifact, at: datetime) -> Problem:
    kept = "" if artifact.kept_days is None else f" for {artifact.kept_days:g} d"
    detail = (
        f"{artifact.name} expired at {at:%Y-%m-%dT%H:%M:%SZ}: files are kept{kept} here "
        "(SEGUE_ARTIFACT_RETENTION_DAYS, or segue artifacts gc)"
    )
    return Problem(HTTPStatus.GONE, "artifact-expired", detail, expired_at=at, kept_days=artifact.kept_days)


def _store_away() -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "artifact-store-away",
        "the artifact store cannot be reached right now; the file is not lost",
        headers={"Retry-After": "5"},
    )
