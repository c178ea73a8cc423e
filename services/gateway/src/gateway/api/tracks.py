"""`/api/tracks`: requesting music, and looking up tracks."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from opentelemetry import trace
from pydantic import JsonValue, WithJsonSchema

from chassis.observability.telemetry import trace_id_of, traceparent_of
from contracts.ids import job_id_for, track_id_for
from contracts.modalities.music import MusicInput
from contracts.providers.registry import PROVIDERS
from gateway.context import TENANT, Gateway, GatewayDep, publish_deadline
from gateway.http.bodies import disconnected
from gateway.http.json_body import JsonBody
from gateway.http.pagination import CursorText, cursor_of, cursor_text
from gateway.http.plain import PlainJSON
from gateway.http.prefer import Prefer, wait_of
from gateway.http.problem_document import documented
from gateway.intake.errors import ArrivedTooLate, JobUnreadable
from gateway.intake.idempotency import FirstUse, Key, Use, key_of, require_same
from gateway.intake.track_request import (
    MAX_BODY_BYTES,
    SEED_REQUEST,
    SONG_PROVIDERS,
    SONG_REQUEST,
    TrackRequest,
    require_route,
)
from gateway.intake.track_request import to_message as job_requested
from gateway.queries.errors import ReadModelUnavailable
from gateway.queries.model import Job
from gateway.views.schemas import AcceptedAnswer, JobAnswer, TrackAnswer, TrackPage

router = APIRouter(prefix="/api/tracks", tags=["tracks"])

_EXAMPLES: Final[dict[str, JsonValue]] = {
    "instrumental": {"summary": "A warm pad without vocals", "value": SEED_REQUEST},
    "song": {"summary": f"A song, {PROVIDERS[SONG_PROVIDERS[0]].title} first", "value": SONG_REQUEST},
}
_Keys = Annotated[
    list[str],
    WithJsonSchema({"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$", "examples": ["order-1042"]}),
    Header(
        alias="Idempotency-Key",
        default_factory=list,
        description="Makes a repeat safe: the same key and body are the same job. Quotation marks are part of the key.",
    ),
]
_Prefer = Annotated[
    Prefer,
    Header(
        alias="Prefer",
        default_factory=list,
        description="`wait=N`: wait up to N seconds (at most 60) for the job to end. "
        "If too many requests wait already, the response is immediate, without `Preference-Applied`.",
    ),
]
_REFUSALS: Final = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


_BODY: Final = JsonBody(TrackRequest, MAX_BODY_BYTES, examples=_EXAMPLES)


async def serve_create_track(request: Request) -> Response:
    """Serve a request for `create_track`, without FastAPI's routing."""
    gateway: Gateway = request.app.state.gateway
    # An invalid key is reported before an invalid body.
    key = key_of(request.headers.getlist("Idempotency-Key"))
    track_request = await _BODY.read(request)
    deadline = publish_deadline()
    music = track_request.music()
    settings = gateway.settings
    require_route(track_request, music, gateway.catalogue, settings.music_provider, settings.providers)
    answer = await _accept(gateway, track_request, music, key, deadline)
    request.state.job_id = answer.job_id
    headers = {"Location": gateway.present.job_url(answer.job_id), "Idempotency-Key": key.value}
    if wait := wait_of(request.headers.getlist("Prefer")):
        waited = await gateway.completion.ended(answer.job_id, TENANT, wait, partial(disconnected, request))
        if waited.honoured:
            headers["Preference-Applied"] = f"wait={wait}"
        if waited.job is not None:
            return _json(200, gateway.present.job(waited.job), headers)
    return _json(202, answer, headers)


async def create_track(
    _keys: _Keys, _track_request: Annotated[TrackRequest, Depends(_BODY.read)], _prefer: _Prefer
) -> Response:
    """Request a piece of music. The response names the job, which is stored durably."""
    # This function declares the parameters for the OpenAPI document. A request that arrives here has another path, such
    # as one with a line break at its end, which FastAPI's pattern matches as well.
    raise HTTPException(HTTPStatus.NOT_FOUND)


router.add_api_route(
    "",
    create_track,
    methods=["POST"],
    status_code=202,
    response_model=AcceptedAnswer,
    responses={200: {"model": JobAnswer, "description": "With `Prefer: wait`: the job has ended."}, **_REFUSALS},
)


@router.get("", responses=documented(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE))
async def list_tracks(
    gateway: GatewayDep, cursor: CursorText = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> TrackPage:
    """List tracks, newest first."""
    page = await gateway.lookup.tracks(TENANT, cursor_of(cursor), limit, gateway.clocks.now())
    return TrackPage(tracks=[gateway.present.track(each) for each in page.items], next_cursor=cursor_text(page.after))


@router.get("/{track_id}", responses=documented(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE))
async def get_track(track_id: str, request: Request, gateway: GatewayDep) -> TrackAnswer:
    """Get one track: the provider that made it, and the URL of its audio."""
    found = await gateway.lookup.track(track_id, TENANT)
    request.state.job_id = found.value.job_id
    return gateway.present.track(found.value, stale=found.stale)


async def _accept(
    gateway: Gateway, track_request: TrackRequest, music: MusicInput, key: Key, deadline: float
) -> AcceptedAnswer:
    fingerprint = track_request.fingerprint()
    job_id = job_id_for(TENANT, key.value)
    track_id = track_id_for(job_id)
    now, keep_rows = gateway.clocks.now(), gateway.settings.keep_rows
    tailed = gateway.tail.known(job_id).job_at(now)
    if tailed is not None:
        require_same(fingerprint, tailed.fingerprint)
        if not tailed.runs_again(now, keep_rows):
            return gateway.present.accepted(job_id, track_id, tailed.trace_id)
    parent = traceparent_of(trace.get_current_span())
    if key.given:
        first, stored = await _known(gateway, Use(TENANT, key.value, fingerprint, job_id, parent))
        # A job that exists decides. The row may be of a request that was refused because of it, after that of the job
        # was deleted.
        of_job, of_row = stored.fingerprint if stored else None, first.fingerprint if first else None
        require_same(fingerprint, of_job or of_row)
        if stored is not None and not stored.runs_again(now, keep_rows):
            return gateway.present.accepted(job_id, track_id, stored.trace_id)
        if first is not None and first.fingerprint == fingerprint:
            parent = first.traceparent  # The repeat of a request that got a 503 belongs to the trace of the first try.
    # A gateway without a recent reading of Kafka's clock may set a deadline that has passed; the confirmation of the
    # first message is such a reading. The orchestrator discards the late request and runs the second one.
    for is_last in (False, True):
        message = job_requested(
            track_request,
            music,
            job_id,
            track_id,
            TENANT,
            fingerprint=fingerprint,
            now=gateway.clocks.now(),
            accept_by=gateway.clocks.kafka_now() + timedelta(seconds=gateway.settings.accept_within_s),
            deadline_s=gateway.settings.job_deadline_s,
            ambiguity_policy=gateway.settings.ambiguity_policy,
            lost_output_policy=gateway.settings.lost_output_policy,
        )
        try:
            await gateway.publisher.publish_and_tail(message, deadline, parent=parent, key=key.value)
            break
        except ArrivedTooLate:
            if is_last:
                raise
    return gateway.present.accepted(job_id, track_id, trace_id_of(parent))


async def _known(gateway: Gateway, use: Use) -> tuple[FirstUse | None, Job | None]:
    """The first use of the key and the job in the read model, each None if the database does not answer.

    Raises JobUnreadable if the read model has the job and does not return it: published once more, one that ended long
    ago would run, and cost, again.
    """
    # The read model is asked after a first use as well: its key may have been deleted, or may have been generated for
    # a request without one, which is not stored.
    first = await gateway.fingerprints.remember_and_find(use)
    if first is not None:
        return first, await _existing(gateway, use) if first.has_job else None
    return await asyncio.gather(gateway.fingerprints.remember(use), _found_alone(gateway, use))


async def _found_alone(gateway: Gateway, use: Use) -> Job | None:
    # At once, and not after the key is stored, which may take all of the time that the request has for the database.
    return await _existing(gateway, use) if await gateway.lookup.exists(use.job_id, use.tenant) else None


async def _existing(gateway: Gateway, use: Use) -> Job | None:
    try:
        return await gateway.lookup.existing(use.job_id, use.tenant)
    except ReadModelUnavailable as error:
        raise JobUnreadable(use.key) from error


def _json(status: int, answer: AcceptedAnswer | JobAnswer, headers: dict[str, str]) -> Response:
    return PlainJSON(answer.model_dump(mode="json"), status, headers=headers)
