"""`/api/tracks`: asking for music, and finding what was made."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from opentelemetry import trace
from pydantic import JsonValue, WithJsonSchema

from chassis.observability.telemetry import trace_id_of, traceparent_of
from contracts.ids import job_id_for, track_id_for
from contracts.providers.registry import PROVIDERS
from gateway.context import TENANT, Gateway, GatewayDep, PublishDeadline
from gateway.http.bodies import disconnected
from gateway.http.json_body import json_body
from gateway.http.pagination import CursorText, cursor_of, cursor_text
from gateway.http.plain import PlainJSON
from gateway.http.prefer import Prefer, wait_of
from gateway.http.problem_document import documented
from gateway.intake.errors import ArrivedTooLate
from gateway.intake.idempotency import Key, key_of, require_same
from gateway.intake.track_request import (
    MAX_BODY_BYTES,
    SEED_REQUEST,
    SONG_PROVIDERS,
    SONG_REQUEST,
    TrackRequest,
    require_route,
)
from gateway.intake.track_request import to_message as job_requested
from gateway.views.schemas import AcceptedAnswer, JobAnswer, TrackAnswer, TrackPage

router = APIRouter(prefix="/api/tracks", tags=["tracks"])

_EXAMPLES: Final[dict[str, JsonValue]] = {
    "instrumental": {"summary": "A warm pad, nobody sings", "value": SEED_REQUEST},
    "song": {"summary": f"A song, {PROVIDERS[SONG_PROVIDERS[0]].title} first", "value": SONG_REQUEST},
}
_Keys = Annotated[
    list[str],
    WithJsonSchema({"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$", "examples": ["order-1042"]}),
    Header(
        alias="Idempotency-Key",
        default_factory=list,
        description="Makes a repeat safe: the same key and body are the same job. Quotation marks belong to it.",
    ),
]
_Prefer = Annotated[
    Prefer,
    Header(
        alias="Prefer",
        default_factory=list,
        description="`wait=N`: answer when the job has ended, after N seconds (at most 60) at the latest. "
        "Where too many wait already, the answer comes at once, without `Preference-Applied`.",
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


async def _key(keys: _Keys) -> Key:
    return key_of(keys)


@router.post(
    "",
    status_code=202,
    response_model=AcceptedAnswer,
    responses={200: {"model": JobAnswer, "description": "With `Prefer: wait`: the job has ended."}, **_REFUSALS},
)
async def create_track(
    request: Request,
    here: GatewayDep,
    # In the order in which they are checked: what is wrong with the key is told first.
    key: Annotated[Key, Depends(_key)],
    wanted: Annotated[TrackRequest, json_body(TrackRequest, MAX_BODY_BYTES, examples=_EXAMPLES)],
    deadline: PublishDeadline,
    prefer: _Prefer,
) -> Response:
    """Ask for a piece of music. The answer says which job it became; that job is safe from then on."""
    require_route(wanted, here.catalogue, here.settings.music_provider)
    answer = await _accept(here, wanted, key, deadline)
    headers = {"Location": here.present.job_url(answer.job_id), "Idempotency-Key": key.value}
    if wait := wait_of(prefer):
        waited = await here.completion.ended(answer.job_id, TENANT, wait, partial(disconnected, request))
        if waited.honoured:
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


async def _accept(here: Gateway, wanted: TrackRequest, key: Key, deadline: float) -> AcceptedAnswer:
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
    for is_last in (False, True):
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
        try:
            await here.publisher.publish_and_tail(message, deadline, parent=parent, key=key.value)
            break
        except ArrivedTooLate:
            if is_last:
                raise
    return here.present.accepted(job_id, track_id, trace_id_of(parent))


def _json(status: int, answer: AcceptedAnswer | JobAnswer, headers: dict[str, str]) -> Response:
    return PlainJSON(answer.model_dump(mode="json"), status, headers=headers)
