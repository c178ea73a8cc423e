"""Replicate's errors, one by one: what each means for the job."""

import json
from typing import Any

import pytest

from adapter_kit.judging import Evidence
from adapter_kit.wire import Answer
from contracts.failures import FailureKind as Kind
from replicate_adapter.errors import API_ROWS, PREDICTION_ROWS, api_failure, prediction_failure


def problem(title: str, detail: str, **more: Any) -> dict[str, Any]:
    return {"title": title, "detail": detail, **more}


INVALID = [{"type": "required", "field": "input", "description": "prompt is required"}]
API_CASES: list[tuple[int, Any, Kind]] = [
    (401, problem("Unauthenticated", "You did not pass a valid authentication token"), Kind.UNAUTHORIZED),
    (402, problem("Insufficient credit", "You have insufficient credit to run this model."), Kind.INSUFFICIENT_BALANCE),
    (403, problem("Forbidden", "You do not have permission to run this model."), Kind.FORBIDDEN),
    (404, {"detail": "The requested resource could not be found.", "status": 404}, Kind.MODEL_NOT_FOUND),
    (
        422,
        problem("Input validation failed", "- input: prompt is required\n", invalid_fields=INVALID),
        Kind.INVALID_INPUT,
    ),
    (422, problem("Invalid version or not permitted", "The version does not exist"), Kind.MODEL_NOT_FOUND),
    (422, problem("Content flagged", "The input was flagged as sensitive. (E005)"), Kind.CONTENT_POLICY),
    (413, "<html>Request Entity Too Large</html>", Kind.INVALID_INPUT),
    (429, {"detail": "Request was throttled. Your rate limit resets in ~30s."}, Kind.RATE_LIMITED),
    (500, problem("Internal server error", "An unexpected error occurred."), Kind.PROVIDER_ERROR),
    (502, "<html>cloudflare</html>", Kind.PROVIDER_ERROR),
    (520, "<html>cloudflare</html>", Kind.PROVIDER_ERROR),
    (400, problem("Bad request", "something new"), Kind.UNKNOWN),
    (409, [], Kind.UNKNOWN),
    (418, "I'm a teapot", Kind.UNKNOWN),
]

PREDICTION_CASES: list[tuple[Any, Kind, str | None]] = [
    ("E1000: Unknown error", Kind.PROVIDER_ERROR, "E1000"),
    ("The model took too long to start. (E6716)", Kind.PROVIDER_ERROR, "E6716"),
    ("E8367: stopped in a non-terminal state", Kind.PROVIDER_ERROR, "E8367"),
    ("The model failed its health check. (E8765)", Kind.PROVIDER_ERROR, "E8765"),
    ("E9243: error starting", Kind.PROVIDER_ERROR, "E9243"),
    ("E9825: upload failed", Kind.PROVIDER_ERROR, "E9825"),
    ("Prediction interrupted; please retry (code: PA)", Kind.PROVIDER_ERROR, None),
    ("The input or output was flagged as sensitive. Please try again. (E005)", Kind.CONTENT_POLICY, "E005"),
    ("flagged as sensitive", Kind.CONTENT_POLICY, None),
    ("E1001: out of memory", Kind.MODEL_ERROR, "E1001"),
    ("CUDA error at E10005", Kind.MODEL_ERROR, None),
    ("it fell over", Kind.MODEL_ERROR, None),
    ("", Kind.MODEL_ERROR, None),
    (None, Kind.MODEL_ERROR, None),
    ({"odd": "object"}, Kind.MODEL_ERROR, None),
]


def answer(status: int, body: Any) -> Answer:
    return Answer(status, {}, (body if isinstance(body, str) else json.dumps(body)).encode())


@pytest.mark.parametrize(("status", "body", "kind"), API_CASES, ids=lambda value: str(value)[:40])
def test_each_answer_has_its_kind(status: int, body: Any, kind: Kind) -> None:
    failure = api_failure(answer(status, body))
    assert (failure.kind, failure.http_status) == (kind, status)
    assert failure.message


@pytest.mark.parametrize(("error", "kind", "code"), PREDICTION_CASES, ids=lambda value: str(value)[:40])
def test_each_prediction_s_error_has_its_kind(error: Any, kind: Kind, code: str | None) -> None:
    failure = prediction_failure(error)
    assert (failure.kind, failure.code, failure.http_status) == (kind, code, None)
    assert failure.message


def test_every_row_decides_a_case() -> None:
    answers = [Evidence(json.dumps(body), status) for status, body, _ in API_CASES]
    errors = [Evidence(str(error)) for error, _, _ in PREDICTION_CASES]
    for rows, cases in ((API_ROWS, answers), (PREDICTION_ROWS, errors)):
        deciding = {next((n for n, row in enumerate(rows) if row.fits(case)), None) for case in cases}
        assert deciding - {None} == set(range(len(rows)))


def test_title_and_detail_are_the_words_and_the_title_the_code() -> None:
    failure = api_failure(answer(402, problem("Insufficient credit", "Top up.")))
    assert (failure.message, failure.code) == ("Insufficient credit: Top up.", "Insufficient credit")
