"""What Replicate's errors mean: those of its API, in problem-details form, and those that a failed prediction tells.

Source: Replicate's pages on its HTTP API and on error codes; "(E005)" is from the field.
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import JsonValue

from adapter_kit.judging import Evidence, Row, judge
from adapter_kit.outcomes import Failure
from adapter_kit.wire import Answer
from contracts.failures import FailureKind

_SENSITIVE: Final = r"\bE005\b|flagged as sensitive"

API_ROWS: Final = (
    Row(FailureKind.UNAUTHORIZED, status=401),
    Row(FailureKind.INSUFFICIENT_BALANCE, status=402),
    Row(FailureKind.FORBIDDEN, status=403),
    Row(FailureKind.MODEL_NOT_FOUND, status=404),
    Row(FailureKind.RATE_LIMITED, status=429),
    Row(FailureKind.CONTENT_POLICY, status=422, says=_SENSITIVE),
    Row(FailureKind.MODEL_NOT_FOUND, status=422, says="invalid version or not permitted"),
    Row(FailureKind.INVALID_INPUT, status=422),
    Row(FailureKind.INVALID_INPUT, status=413),
    Row(FailureKind.PROVIDER_ERROR, status=(500, 599)),
)
"""Answers of the API."""

PREDICTION_ROWS: Final = (
    Row(FailureKind.CONTENT_POLICY, says=_SENSITIVE),
    Row(FailureKind.PROVIDER_ERROR, says=r"\bE(1000|6716|8367|8765|9243|9825)\b"),
    Row(FailureKind.PROVIDER_ERROR, says=r"\(code: PA\)"),
    Row(FailureKind.MODEL_ERROR),
)
"""What `error` says of a prediction that failed; codes without a row, such as E1001, out of memory, are the model's."""

_CODE: Final = re.compile(r"\bE\d{3,4}\b")


def api_failure(answer: Answer) -> Failure:
    """The failure that an answer of the API shows."""
    document = answer.document()
    title, detail = (
        value if isinstance(value, str) else "" for value in (document.get("title"), document.get("detail"))
    )
    message = ": ".join(part for part in (title, detail) if part) or answer.text or "no words"
    return judge(API_ROWS, Evidence(message, answer.status, answer.headers, code=title or None))


def prediction_failure(error: JsonValue) -> Failure:
    """The failure that a prediction's `error` tells."""
    message = error if isinstance(error, str) else "" if error is None else str(error)
    code = _CODE.search(message)
    return judge(PREDICTION_ROWS, Evidence(message or "failed without a reason", code=code[0] if code else None))
