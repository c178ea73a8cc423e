"""`/api/callbacks`: providers' webhooks, ours by the address, theirs by the signature, in Kafka before the 204."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response

from chassis.observability.logs import get_logger
from contracts.callback_urls import CALLBACKS_PATH, mac_is_right
from contracts.generation import Provider
from contracts.ids import AttemptId, job_of
from contracts.messages.callbacks import CallbackReceived
from contracts.providers.registry import PROVIDERS
from gateway.api.error_answers import problem_of
from gateway.context import Gateway, GatewayDep, PublishDeadline
from gateway.http.bodies import read_body
from gateway.http.json_body import not_json
from gateway.http.problem_document import Problem
from gateway.log_events import GatewayEvent
from gateway.metrics import CALLBACKS
from gateway.signatures.run_match import about, require_own_run
from gateway.signatures.signed import NotFresh

router = APIRouter(prefix=CALLBACKS_PATH, include_in_schema=False)

MAX_BODY_BYTES: Final = 1_000_000
"""In Kafka a body of JSON is a JSON string, at most twice as long: within the largest message."""
MAX_DELIVERY_ID_CHARS: Final = 300


@router.post("/{provider}/{attempt_id}/{mac}", status_code=204)
async def take_callback(
    provider: str, attempt_id: str, mac: str, request: Request, here: GatewayDep, deadline: PublishDeadline
) -> Response:
    """Take a webhook: 204 once Kafka has it, and 503, upon which providers send it again, where that is not sure."""
    if provider not in PROVIDERS or not _is_ours(here, provider, attempt_id, mac):
        CALLBACKS.labels(provider if provider in PROVIDERS else "other", "wrong-address").inc()
        raise HTTPException(HTTPStatus.NOT_FOUND)
    log = get_logger("gateway.api.callbacks").bind(provider=provider, attempt_id=attempt_id)
    try:
        message = await _verified(here, provider, AttemptId(attempt_id), request)
        await _require_own_run(here, message)
        await here.publisher.publish(message, deadline)
    except Exception as error:
        problem = problem_of(error)
        CALLBACKS.labels(provider, problem.kind).inc()
        # The kind alone decides which lines are of one kind: the detail has in it what a stranger sent.
        log.warning(GatewayEvent.CALLBACK_REJECTED, reason=problem.kind, detail=problem.detail)
        raise
    CALLBACKS.labels(provider, "taken").inc()
    log.info(GatewayEvent.CALLBACK_ACCEPTED, job_id=message.job_id, delivery_id=message.delivery_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _is_ours(here: Gateway, provider: Provider, attempt_id: str, mac: str) -> bool:
    secret = here.settings.callback_secret
    made = provider in here.verifiers and secret is not None
    return made and secret is not None and mac_is_right(secret.get_secret_value(), provider, attempt_id, mac)


async def _verified(here: Gateway, provider: Provider, attempt_id: AttemptId, request: Request) -> CallbackReceived:
    body = await read_body(request, MAX_BODY_BYTES)
    try:
        delivery_id = await here.verifiers[provider].delivery_id(request.headers, body, here.clocks.outside_s())
    except NotFresh as stale:
        raise _too_old(here, stale) from None
    if delivery_id is None:
        raise Problem(HTTPStatus.UNAUTHORIZED, "bad-signature", "the webhook is not signed by the provider, just now")
    return CallbackReceived(
        job_id=job_of(attempt_id),
        occurred_at=here.clocks.now(),
        attempt_id=attempt_id,
        provider=provider,
        delivery_id=delivery_id[:MAX_DELIVERY_ID_CHARS],
        body=_json_text(body),
    )


def _too_old(here: Gateway, stale: NotFresh) -> Problem:
    if here.clocks.is_confirmed():
        return Problem(HTTPStatus.UNAUTHORIZED, "bad-signature", f"the webhook was signed {stale}, not just now")
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "clock-unconfirmed",
        f"the webhook was signed {stale} by this machine's clock, which no other confirms right now",
        headers={"Retry-After": "5"},
    )


async def _require_own_run(here: Gateway, message: CallbackReceived) -> None:
    said = about(PROVIDERS[message.provider], json.loads(message.body))
    if said.run is not None:
        known = await here.lookup.runs(message.provider, said.run, message.attempt_id)
        require_own_run(said, message.attempt_id, known)


def _json_text(body: bytes) -> str:
    try:
        text = body.decode()
        json.loads(text)
    except (ValueError, RecursionError):
        raise not_json(body, "it cannot be read as that") from None
    return text
