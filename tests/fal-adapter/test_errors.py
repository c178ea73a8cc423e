"""fal's errors, one by one: what each means for the job."""

import json
from typing import Any

import pytest

from adapter_kit.judging import Evidence
from adapter_kit.wire import Answer
from contracts.failures import FailureKind as Kind
from fal_adapter.errors import FAL_ROWS, fal_failure

LOCKED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."


def flat(error_type: str, detail: str = "words") -> dict[str, Any]:
    return {"detail": detail, "error_type": error_type}


def listed(*types: str) -> dict[str, Any]:
    return {"detail": [{"loc": ["body", "prompt"], "msg": f"it is {kind}", "type": kind} for kind in types]}


CASES: list[tuple[int, dict[str, str], Any, Kind]] = [
    # Our own start deadline, and the time-outs that are not ours.
    (504, {"x-fal-request-timeout-type": "user"}, flat("request_timeout"), Kind.START_TIMEOUT),
    (504, {"x-fal-request-timeout-type": "user"}, "", Kind.START_TIMEOUT),
    (504, {}, flat("startup_timeout"), Kind.START_TIMEOUT),
    (504, {}, flat("request_timeout"), Kind.RUN_TIMEOUT),
    (504, {}, listed("generation_timeout"), Kind.RUN_TIMEOUT),
    # fal's infrastructure.
    (503, {}, flat("runner_scheduling_failure"), Kind.PROVIDER_ERROR),
    (503, {}, flat("runner_connection_timeout"), Kind.PROVIDER_ERROR),
    (503, {}, flat("runner_disconnected"), Kind.PROVIDER_ERROR),
    (503, {}, flat("runner_connection_refused"), Kind.PROVIDER_ERROR),
    (503, {}, flat("runner_connection_error"), Kind.PROVIDER_ERROR),
    (502, {}, flat("runner_incomplete_response"), Kind.PROVIDER_ERROR),
    (500, {}, flat("runner_server_error"), Kind.PROVIDER_ERROR),
    (500, {}, flat("internal_error"), Kind.PROVIDER_ERROR),
    (500, {"x-fal-error-type": "internal_error"}, "no JSON", Kind.PROVIDER_ERROR),
    (499, {}, flat("client_cancelled"), Kind.CANCELLED_BY_PROVIDER),
    (499, {}, flat("client_disconnected"), Kind.CANCELLED_BY_PROVIDER),
    (400, {}, flat("bad_request"), Kind.INVALID_INPUT),
    # The models.
    (500, {}, listed("internal_server_error"), Kind.MODEL_ERROR),
    (422, {}, listed("no_media_generated"), Kind.MODEL_ERROR),
    (400, {"x-fal-retryable": "true"}, listed("downstream_service_error"), Kind.PROVIDER_ERROR),
    (400, {"x-fal-retryable": "false"}, listed("downstream_service_error"), Kind.PROVIDER_ERROR),
    (500, {}, listed("downstream_service_unavailable"), Kind.PROVIDER_ERROR),
    (422, {"x-fal-retryable": "false"}, listed("content_policy_violation"), Kind.CONTENT_POLICY),
    (422, {}, listed("missing", "content_policy_violation"), Kind.CONTENT_POLICY),
    (422, {}, listed("file_download_error"), Kind.INVALID_INPUT),
    (422, {}, listed("file_too_large"), Kind.INVALID_INPUT),
    (422, {}, listed("image_too_small"), Kind.INVALID_INPUT),
    (422, {}, listed("greater_than_equal"), Kind.INVALID_INPUT),
    (422, {}, listed("sequence_too_long"), Kind.INVALID_INPUT),
    (422, {}, listed("value_error.missing"), Kind.INVALID_INPUT),
    (422, {}, {"detail": "content_policy_violation is only mentioned"}, Kind.INVALID_INPUT),
    (413, {}, "<html>Request Entity Too Large</html>", Kind.INVALID_INPUT),
    # The account, the key, the endpoint.
    (401, {}, {"detail": "Authentication is required to access this application."}, Kind.UNAUTHORIZED),
    (402, {}, {"detail": "pay"}, Kind.INSUFFICIENT_BALANCE),
    (403, {}, {"detail": LOCKED}, Kind.INSUFFICIENT_BALANCE),
    (403, {}, {"detail": "Access to this application is forbidden for this key."}, Kind.FORBIDDEN),
    (404, {}, {"detail": 'Application "x" not found'}, Kind.MODEL_NOT_FOUND),
    (429, {"x-fal-needs-retry": "1"}, flat("concurrent_requests_limit"), Kind.RATE_LIMITED),
    (429, {}, {"detail": "slow down"}, Kind.RATE_LIMITED),
    # Proxies, and what nobody has described.
    (502, {}, "<html>nginx</html>", Kind.PROVIDER_ERROR),
    (520, {}, "<html>cloudflare</html>", Kind.PROVIDER_ERROR),
    (400, {}, {"detail": "something new"}, Kind.UNKNOWN),
    (418, {}, "I'm a teapot", Kind.UNKNOWN),
    (409, {}, {"detail": [{"type": 7, "msg": None}, "odd"]}, Kind.UNKNOWN),
]


def answer(status: int, headers: dict[str, str], body: Any) -> Answer:
    return Answer(status, headers, (body if isinstance(body, str) else json.dumps(body)).encode())


@pytest.mark.parametrize(("status", "headers", "body", "kind"), CASES, ids=lambda value: str(value)[:40])
def test_each_error_has_its_kind(status: int, headers: dict[str, str], body: Any, kind: Kind) -> None:
    failure = fal_failure(answer(status, headers, body))
    assert (failure.kind, failure.http_status) == (kind, status)
    assert 0 < len(failure.message) <= 2000


def test_every_row_decides_a_case() -> None:
    deciding = set()
    for status, headers, body, _ in CASES:
        details = body.get("detail") if isinstance(body, dict) else None
        types = [each.get("type") for each in details if isinstance(each, dict)] if isinstance(details, list) else []
        types += [body.get("error_type")] if isinstance(body, dict) else []
        types += [headers.get("x-fal-error-type")]
        said = Evidence(str(details), status, headers, tuple(each for each in types if isinstance(each, str)))
        deciding |= {next((n for n, row in enumerate(FAL_ROWS) if row.fits(said)), None)}
    assert deciding - {None} == set(range(len(FAL_ROWS)))


def test_the_model_s_own_code_and_words_are_kept() -> None:
    failure = fal_failure(answer(422, {}, listed("less_than_equal", "missing")))
    assert failure.code == "less_than_equal"
    assert failure.message == "prompt: it is less_than_equal; prompt: it is missing"


def test_a_type_known_from_the_status_alone_counts() -> None:
    failure = fal_failure(answer(500, {}, "Internal Server Error"), "runner_disconnected")
    assert (failure.kind, failure.code) == (Kind.PROVIDER_ERROR, "runner_disconnected")


def test_words_are_bounded_and_storable() -> None:
    failure = fal_failure(answer(422, {}, {"detail": "\x00\ud800" + "x" * 5000}))
    assert len(failure.message) == 2000
    assert "\x00" not in failure.message
    failure.message.encode()
