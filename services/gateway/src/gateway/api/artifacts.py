"""`/api/jobs/{id}/artifacts/{name}`: files from the artifact store, with ranges for players, and safe for browsers."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from chassis.artifact_keys import artifact_key
from chassis.artifacts import STORE_ERRORS
from chassis.observability.logs import get_logger
from contracts.ids import JobId, attempt_id_for
from contracts.messages.attempts import Artifact
from gateway.context import TENANT, Gateway, GatewayDep
from gateway.http.conditional import asked_range, byte_range, precondition
from gateway.http.problem_document import Problem, Responses, documented
from gateway.http.tracing import CutShort
from gateway.log_events import GatewayEvent
from gateway.queries.errors import NotFound
from gateway.queries.model import Job, StoredArtifact

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

_MEDIA: Final = re.compile(r"(audio|image|video)/[a-z0-9][a-z0-9.+-]{0,80}")
_ACTIVE: Final = re.compile(r"svg|xml|html")
_INLINE: Final = frozenset(
    (
        *("audio/mpeg", "audio/mp4", "audio/aac", "audio/wav", "audio/flac", "audio/ogg", "audio/webm"),
        *("video/mp4", "video/webm", "video/ogg", "video/quicktime"),
        *("image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "image/bmp"),
    )
)
"""Types that browsers display without running code in them; all others are sent as downloads."""
_Attempt = Annotated[
    int | None, Query(ge=1, le=9999, description="The attempt of a late file; unset: the job's files.")
]
_BINARY: Final[dict[str, Any]] = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
_HEAD_RESPONSES: Final[Responses] = {
    200: {"description": "The type, the size and the ETag of the file."},
    304: {"description": "If-None-Match has the ETag of the file."},
    **documented(
        HTTPStatus.NOT_FOUND,
        HTTPStatus.GONE,
        HTTPStatus.PRECONDITION_FAILED,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
}
_GET_RESPONSES: Final[Responses] = {
    **_HEAD_RESPONSES,
    200: {"description": "The file.", **_BINARY},
    206: {"description": "The part of the file that Range requests.", **_BINARY},
    **documented(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
}


@router.get(
    "/{job_id}/artifacts/{name}",
    response_class=StreamingResponse,
    responses=_GET_RESPONSES,
)
async def get_artifact(
    job_id: str,
    name: str,
    request: Request,
    gateway: GatewayDep,
    attempt: _Attempt = None,
) -> Response:
    """Get one output file of a job."""
    job = (await gateway.lookup.job(job_id, TENANT)).value
    artifact, attempt_id = _find(job, name, attempt)
    headers = headers_of(artifact)
    if _client_has(request.headers, headers["ETag"], artifact.name):
        return _not_modified(headers)
    part = _part_of(request.headers, headers["ETag"], artifact.size_bytes)
    start, end = part or (0, artifact.size_bytes)
    headers["Content-Length"] = str(end - start)
    status = HTTPStatus.OK
    if part is not None:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size_bytes}"
    key = artifact_key(attempt_id, artifact.name)
    return _FileResponse(_content(gateway, job_id, name, key, start, end if part else None), status, headers)


@router.head("/{job_id}/artifacts/{name}", response_class=Response, responses=_HEAD_RESPONSES)
async def head_artifact(
    job_id: str, name: str, request: Request, gateway: GatewayDep, attempt: _Attempt = None
) -> Response:
    """Get the headers of one output file of a job; Range is ignored."""
    job = (await gateway.lookup.job(job_id, TENANT)).value
    artifact, attempt_id = _find(job, name, attempt)
    headers = headers_of(artifact)
    if _client_has(request.headers, headers["ETag"], artifact.name):
        return _not_modified(headers)
    with _place(gateway), _store_errors(job_id, name):
        size = await gateway.store.head(artifact_key(attempt_id, artifact.name))
    return Response(headers=headers | {"Content-Length": str(size)})


def _client_has(headers: Headers, etag: str, name: str) -> bool:
    """Whether the client has the file already. Raises Problem (412) if If-Match has other ETags only."""
    status = precondition(headers, etag)
    if status is HTTPStatus.PRECONDITION_FAILED:
        detail = f"{name} has the ETag {etag}, which is none of those in If-Match"
        raise Problem(status, "precondition-failed", detail, headers={"ETag": etag})
    return status is HTTPStatus.NOT_MODIFIED


def _not_modified(headers: dict[str, str]) -> Response:
    # RFC 9110 section 15.4.5: a 304 repeats the headers that caches store.
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
    """The response headers of a file; they keep browsers from guessing its type and from running code in it."""
    kind, inline = artifact.content_type, artifact.content_type in _INLINE
    # A type that browsers run code in is not sent, even if the provider declared it.
    media = _MEDIA.fullmatch(kind) is not None and _ACTIVE.search(kind) is None
    return {
        "Content-Type": kind if media else "application/octet-stream",
        "Content-Disposition": f'{"inline" if inline else "attachment"}; filename="{artifact.name}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "ETag": f'"{artifact.sha256}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Accept-Ranges": "bytes",
    }


class _FileResponse(Response):
    """A response whose file is opened when it is sent, and closed at the end."""

    def __init__(
        self, opened: AbstractAsyncContextManager[AsyncIterator[bytes]], status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened as content:
            await StreamingResponse(content, self.status_code, self.headers)(scope, receive, send)


@asynccontextmanager
async def _content(
    gateway: Gateway, job_id: str, name: str, key: str, start: int, end: int | None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The content of a file. Raises NotFound or Problem (503) before its first chunk, and CutShort after that."""
    with _place(gateway):
        with _store_errors(job_id, name):
            chunks = await gateway.store.get(key, start, end)
        async with aclosing(_relayed(chunks, job_id)) as relayed:
            yield relayed


async def _relayed(chunks: AsyncIterator[bytes], job_id: str) -> AsyncGenerator[bytes]:
    try:
        async for chunk in chunks:
            yield chunk
    except STORE_ERRORS as error:
        _log_unavailable(job_id, error)
        raise CutShort from None


@contextmanager
def _place(gateway: Gateway) -> Iterator[None]:
    with gateway.downloads.one_more() as admitted:
        if not admitted:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too-many-downloads",
                f"{gateway.downloads.most} files are being read here, which is the most at a time",
                headers={"Retry-After": "5"},
            )
        yield


@contextmanager
def _store_errors(job_id: str, name: str) -> Iterator[None]:
    """Log the errors of the artifact store in the block, and raise them as NotFound or Problem (503)."""
    try:
        yield
    except FileNotFoundError:
        get_logger("gateway").error(GatewayEvent.ARTIFACT_MISSING, job_id=job_id, name=name)
        raise NotFound("artifact", name) from None
    except STORE_ERRORS as error:
        _log_unavailable(job_id, error)
        raise _store_unavailable() from None


def _log_unavailable(job_id: str, error: Exception) -> None:
    # The error's text is not logged: it may contain the store's credentials.
    get_logger("gateway").warning(GatewayEvent.ARTIFACT_STORE_UNAVAILABLE, job_id=job_id, error=type(error).__name__)


def _gone(artifact: StoredArtifact, at: datetime) -> Problem:
    kept = "" if artifact.kept_days is None else f" for {artifact.kept_days:g} d"
    detail = (
        f"{artifact.name} expired at {at:%Y-%m-%dT%H:%M:%SZ}: files are kept{kept} here "
        "(SEGUE_ARTIFACT_RETENTION_DAYS, or segue artifacts gc)"
    )
    return Problem(HTTPStatus.GONE, "artifact-expired", detail, expired_at=at, kept_days=artifact.kept_days)


def _store_unavailable() -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "artifact-store-away",
        "the artifact store cannot be reached right now; the file is not lost",
        headers={"Retry-After": "5"},
    )
