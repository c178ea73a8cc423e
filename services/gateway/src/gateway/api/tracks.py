"""`/api/tracks`: asking for music, and finding what was made."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from opentelemetry import trace

from chassis.observability.telemetry import trace_id_of, traceparent_of
from contracts.ids import job_id_for, track_id_for
from gateway.context import TENANT, Gateway, GatewayDep
from gateway.http.bodies import declared_type, read_body
from gateway.http.pagination import CursorText, cursor_of, cursor_text
from gateway.http.plain import PlainJSON
from gateway.http.prefer import wait_of
from gateway.http.problems import documented
from gateway.intake.idempotency import Key, key_of, require_same
from gateway.intake.publisher import PUBLISH_LIMIT_S, TooLate, publish_and_tail, too_late
from gateway.intake.track_request import (
    MAX_BODY_BYTES,
    SEED_REQUEST,
    SONG_REQUEST,
    TrackRequest,
    parse,
    require_json,
    require_route,
)
from gateway.intake.track_request import to_message as job_requested
from gateway.queries.await_completion import ended
from gateway.views.schemas import AcceptedAnswer, JobAnswer, TrackAnswer, TrackPage

router = APIRouter(prefix="/api/tracks", tags=["tracks"])

_REQUEST: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": f"#/components/schemas/{TrackRequest.__name__}"},
                "examples": {
                    "instrumental": {"summary": "A warm pad, nobody sings", "value": SEED_REQUEST},
                    "song": {"summary": "A song, Replicate first", "value": SONG_REQUEST},
                },
            }
        },
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Makes a repeat safe: the same key and body are the same job. Quotation marks belong to it.",
            "schema": {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
            "example": "order-1042",
        },
        {
            "name": "Prefer",
            "in": "header",
            "description": "`wait=N`: answer when the job has ended, after N seconds (at most 60) at the latest. "
            "Where too many wait already, the answer comes at once, without `Preference-Applied`.",
            "schema": {"type": "string", "pattern": "^wait=[0-9]{1,2}$"},
            "example": "wait=30",
        },
    ],
}
_REFUSALS: Final = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


@router.post(
    "",
    status_code=202,
    response_model=AcceptedAnswer,
    responses={200: {"model": JobAnswer, "description": "With `Prefer: wait`: the job has ended."}, **_REFUSALS},
    openapi_extra=_REQUEST,
)
async def create_track(request: Request, here: GatewayDep) -> Response:
    """Ask for a piece of music. The answer says which job it became; that job is safe from then on."""
    key = key_of(request.headers.getlist("idempotency-key"))
    require_json(declared_type(request))
    wanted = parse(await read_body(request, MAX_BODY_BYTES))
    require_route(wanted, here.catalogue, here.settings.music_provider)
    answer = await _accept(here, wanted, key)
    headers = {"Location": here.present.job_url(answer.job_id), "Idempotency-Key": key.value}
    if wait := wait_of(request.headers.getlist("prefer")):
        waited = await ended(here, request, answer.job_id, wait)
        if waited.as_asked:
            headers["Preference-Applied"] = f"wait={wait}"
        if waited.job is not None:
            return _json(200, here.present.job(waited.job), headers)
    return _json(202, answer, headers)


@router.get("", responses=documented(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE))
async def list_tracks(
    here: GatewayDep, cursor: CursorText = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> TrackPage:
    """The tracks, the newest first."""
    below = cursor_of(cursor)
    found = await here.lookup.tracks(TENANT, below, limit, here.clocks.now())
    after = cursor_text(found[-1].created_at, found[-1].track_id) if len(found) == limit else None
    return TrackPage(tracks=[here.present.track(track) for track in found], next_cursor=after)


@router.get("/{track_id}", responses=documented(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE))
async def get_track(track_id: str, here: GatewayDep) -> TrackAnswer:
    """One track: who made it, and where its audio is."""
    found = await here.lookup.track(track_id, TENANT)
    return here.present.track(found.value, stale=found.stale)


async def _accept(here: Gateway, wanted: TrackRequest, key: Key) -> AcceptedAnswer:
    deadline = asyncio.get_running_loop().time() + PUBLISH_LIMIT_S
    fingerprint = wanted.fingerprint()
    job_id = job_id_for(TENANT, key.value)
    track_id = track_id_for(job_id)
    tailed = here.tail.known(job_id).job
    if tailed is not None:
        require_same(fingerprint, tailed.fingerprint)
        if not tailed.never_run:
            return here.present.accepted(job_id, track_id, tailed.trace_id)
    parent = traceparent_of(trace.get_current_span())
    if key.given:
        first, stored = await asyncio.gather(
            here.fingerprints.remember(TENANT, key, fingerprint, job_id, parent), here.lookup.stored(job_id, TENANT)
        )
        require_same(fingerprint, first.fingerprint if first else None)
        require_same(fingerprint, stored.fingerprint if stored else None)
        if stored is not None and not stored.never_run:
            return here.present.accepted(job_id, track_id, stored.trace_id)
        # A repeat of what was answered 503 goes into the trace that the first try began.
        parent = first.traceparent if first else parent
    # The first one may teach us Kafka's clock; the second is then in time, and a request that came late is no obstacle.
    for _ in range(2):
        message = job_requested(
            wanted,
            job_id,
            TENANT,
            now=here.clocks.now(),
            accept_by=here.clocks.kafka_now() + timedelta(seconds=here.settings.accept_within_s),
            deadline_s=here.settings.job_deadline_s,
            ambiguity_policy=here.settings.ambiguity_policy,
            lost_output_policy=here.settings.lost_output_policy,
        )
        with suppress(TooLate):
            await publish_and_tail(here, message, parent=parent, deadline=deadline, key=key.value)
            return here.present.accepted(job_id, track_id, trace_id_of(parent))
    raise too_late(key.value)


def _json(status: int, answer: AcceptedAnswer | JobAnswer, headers: dict[str, str]) -> Response:
    return PlainJSON(answer.model_dump(mode="json"), status, headers=headers)
