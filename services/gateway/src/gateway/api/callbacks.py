"""`/api/callbacks`: callbacks of providers, verified by address and signature, and stored in Kafka before the 204."""

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
"""The body becomes a JSON string in the message, up to twice as long, which is still below Kafka's message limit."""
MAX_DELIVERY_ID_CHARS: Final = 300


@router.post("/{provider}/{attempt_id}/{mac}", status_code=204)
async def take_callback(
    provider: str, attempt_id: str, mac: str, request: Request, gateway: GatewayDep, deadline: PublishDeadline
) -> Response:
    """Accept a callback: 204 once Kafka has stored it, 503 if it may not have, upon which providers repeat it."""
    if provider not in PROVIDERS or not _is_ours(gateway, provider, attempt_id, mac):
        CALLBACKS.labels(provider if provider in PROVIDERS else "other", "wrong-address").inc()
        raise HTTPException(HTTPStatus.NOT_FOUND)
    log = get_logger("gateway.api.callbacks").bind(provider=provider, attempt_id=attempt_id)
    try:
        message = await _verified(gateway, provider, AttemptId(attempt_id), request)
        await _require_own_run(gateway, message)
        await gateway.publisher.publish(message, deadline)
    except Exception as error:
        problem = problem_of(error)
        CALLBACKS.labels(provider, problem.kind).inc()
        # The log's rate limit goes by `reason` alone, as `detail` quotes what anybody may have sent.
        log.warning(GatewayEvent.CALLBACK_REJECTED, reason=problem.kind, detail=problem.detail)
        raise
    CALLBACKS.labels(provider, "taken").inc()
    log.info(GatewayEvent.CALLBACK_ACCEPTED, job_id=message.job_id, delivery_id=message.delivery_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _is_ours(gateway: Gateway, provider: Provider, attempt_id: str, mac: str) -> bool:
    secret = gateway.settings.callback_secret
    if secret is None or provider not in gateway.verifiers:
        return False
    return mac_is_right(secret.get_secret_value(), provider, attempt_id, mac)


async def _verified(gateway: Gateway, provider: Provider, attempt_id: AttemptId, request: Request) -> CallbackReceived:
    body = await read_body(request, MAX_BODY_BYTES)
    try:
        delivery_id = await gateway.verifiers[provider].delivery_id(request.headers, body, gateway.clocks.outside_s())
    except NotFresh as error:
        raise _not_fresh(gateway, error) from None
    if delivery_id is None:
        raise Problem(HTTPStatus.UNAUTHORIZED, "bad-signature", "the callback has no valid signature of the provider")
    return CallbackReceived(
        job_id=job_of(attempt_id),
        occurred_at=gateway.clocks.now(),
        attempt_id=attempt_id,
        provider=provider,
        delivery_id=delivery_id[:MAX_DELIVERY_ID_CHARS],
        body=_json_text(body),
    )


def _not_fresh(gateway: Gateway, error: NotFresh) -> Problem:
    if gateway.clocks.is_confirmed():
        return Problem(
            HTTPStatus.UNAUTHORIZED, "bad-signature", f"the callback was signed {error}, which is not recent"
        )
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "clock-unconfirmed",
        f"the callback was signed {error} by this machine's clock, which no other clock confirms right now",
        headers={"Retry-After": "5"},
    )


async def _require_own_run(gateway: Gateway, message: CallbackReceived) -> None:
    subject = about(PROVIDERS[message.provider], json.loads(message.body))
    if subject.run is None:
        return
    # The signed body names the attempt for which the run was submitted, or else what is known of the run tells.
    known = subject.attempt_id is not None
    runs = {} if known else await gateway.lookup.runs(message.provider, subject.run, message.attempt_id)
    require_own_run(subject, message.attempt_id, runs)


def _json_text(body: bytes) -> str:
    try:
        text = body.decode()
        json.loads(text)
    except (ValueError, RecursionError):
        raise not_json(body, "it cannot be parsed") from None
    return text
