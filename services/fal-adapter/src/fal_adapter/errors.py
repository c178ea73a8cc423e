"""What fal's errors mean: flat ones of its infrastructure, listed ones of the models, and those of proxies before it.

Source: fal's pages on request errors, model errors and request headers. Types come first, because a status alone
misleads: a 400 may be the provider's fault, and a 504 the start deadline that Segue itself set.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import JsonValue

from adapter_kit.judging import Evidence, Row, judge
from adapter_kit.outcomes import Failure
from adapter_kit.wire import Answer
from contracts.failures import FailureKind

FAL_ROWS: Final = (
    Row(FailureKind.START_TIMEOUT, status=504, header=("x-fal-request-timeout-type", "user")),
    Row(FailureKind.START_TIMEOUT, types=frozenset({"startup_timeout"})),
    Row(FailureKind.RUN_TIMEOUT, types=frozenset({"request_timeout", "generation_timeout"})),
    Row(FailureKind.CONTENT_POLICY, types=frozenset({"content_policy_violation"})),
    Row(
        FailureKind.PROVIDER_ERROR,
        types=frozenset(
            {
                "downstream_service_error",
                "downstream_service_unavailable",
                "runner_scheduling_failure",
                "runner_connection_timeout",
                "runner_disconnected",
                "runner_connection_refused",
                "runner_connection_error",
                "runner_incomplete_response",
                "runner_server_error",
                "internal_error",
            }
        ),
    ),
    Row(FailureKind.MODEL_ERROR, types=frozenset({"internal_server_error", "no_media_generated"})),
    Row(FailureKind.CANCELLED_BY_PROVIDER, types=frozenset({"client_cancelled", "client_disconnected"})),
    Row(FailureKind.RATE_LIMITED, types=frozenset({"concurrent_requests_limit"})),
    Row(FailureKind.UNAUTHORIZED, status=401),
    Row(FailureKind.INSUFFICIENT_BALANCE, status=402),
    Row(FailureKind.INSUFFICIENT_BALANCE, status=403, says="exhausted balance|user is locked|top up your balance"),
    Row(FailureKind.FORBIDDEN, status=403),
    Row(FailureKind.MODEL_NOT_FOUND, status=404),
    Row(FailureKind.RATE_LIMITED, status=429),
    Row(FailureKind.INVALID_INPUT, status=422),
    Row(FailureKind.INVALID_INPUT, status=413),
    Row(FailureKind.INVALID_INPUT, status=400, types=frozenset({"bad_request"})),
    Row(FailureKind.PROVIDER_ERROR, status=(500, 599)),
)

STILL_IN_PROGRESS: Final = "still in progress"
"""How fal answers who asks for a result too early, with a 400."""


def fal_failure(answer: Answer, error_type: JsonValue = None) -> Failure:
    """The failure that an answer shows; `error_type` is what a status said of it, where there was one."""
    document = answer.document()
    listed = document.get("detail")
    details = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    types = _texts([item.get("type") for item in details])
    flat = _texts([document.get("error_type"), answer.headers.get("x-fal-error-type"), error_type])
    message = "; ".join(_in_words(item) for item in details) if details else _flat_message(document)
    return judge(
        FAL_ROWS, Evidence(message or answer.text or "no words", answer.status, answer.headers, (*types, *flat))
    )


def _flat_message(document: dict[str, JsonValue]) -> str:
    return next(iter(_texts([document.get("detail"), document.get("error")])), "")


def _in_words(detail: dict[str, JsonValue]) -> str:
    place = detail.get("loc")
    where = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
    return ": ".join(_texts([where, detail.get("msg") or detail.get("type")]))


def _texts(values: Iterable[JsonValue]) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str) and value)
