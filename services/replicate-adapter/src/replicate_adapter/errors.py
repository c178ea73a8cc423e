"""What Replicate's errors mean: those of its API, in problem-details form, and those that a failed prediction tells.

Source: Replicate's pages on its HTTP API and on error codes; "(E005)" and "(E006)" are from the field. A prediction's
error is mostly what the model's own code raised, so that its words count where they name a caller's mistake.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from adapter_kit.judging import ABOUT_CALLBACK, Evidence, Row, echoes_in, in_words, judge, listed_errors, texts_in
from adapter_kit.outcomes import Failure
from adapter_kit.wire import Answer
from contracts.failures import FailureKind

_SENSITIVE: Final = r"\bE005\b|flagged as sensitive"
_BILLING: Final = r"\b(?:billing|payment|insufficient credit|spend(?:ing)? limit|free time limit)\b"

API_ROWS: Final = (
    Row(FailureKind.UNAUTHORIZED, status=401),
    Row(FailureKind.INSUFFICIENT_BALANCE, status=402),
    Row(FailureKind.INSUFFICIENT_BALANCE, status=403, says=_BILLING),
    Row(FailureKind.INSUFFICIENT_BALANCE, status=(400, 499), says="insufficient credit"),
    # A firewall before Replicate may dislike one caller's words; that says nothing of the token.
    Row(FailureKind.UNKNOWN, status=403, page=True),
    Row(FailureKind.FORBIDDEN, status=403, yields=True),
    Row(FailureKind.MODEL_NOT_FOUND, status=404),
    Row(FailureKind.MODEL_NOT_FOUND, status=410),
    Row(FailureKind.RATE_LIMITED, status=429),
    Row(FailureKind.CONTENT_POLICY, status=422, says=_SENSITIVE),
    Row(FailureKind.MODEL_NOT_FOUND, status=422, says="invalid version or not permitted"),
    Row(FailureKind.CALLBACK_REFUSED, status=422, says=ABOUT_CALLBACK),
    Row(FailureKind.CALLBACK_REFUSED, status=400, says=ABOUT_CALLBACK),
    Row(FailureKind.INVALID_INPUT, status=422, yields=True),
    Row(FailureKind.INVALID_INPUT, status=413),
    Row(FailureKind.PROVIDER_ERROR, status=(500, 599), yields=True),
)
"""Answers of the API."""

PREDICTION_ROWS: Final = (
    Row(FailureKind.CALLBACK_REFUSED, says=r"\bE4875\b"),
    Row(FailureKind.CONTENT_POLICY, says=_SENSITIVE),
    Row(FailureKind.INVALID_INPUT, says=r"\bE006\b"),
    Row(FailureKind.MODEL_ERROR, says=r"\bE1001\b"),
    Row(FailureKind.PROVIDER_ERROR, says=r"\bE(1000|6716|8367|8765|9243|9825|9828)\b", yields=True),
    Row(FailureKind.PROVIDER_ERROR, says=r"\(code: PA\)"),
    Row(FailureKind.PROVIDER_ERROR, says=r"director: unexpected error handling prediction"),
    Row(FailureKind.MODEL_ERROR, yields=True),
)
"""What `error` says of a prediction that failed; what has no row is the model's."""

LAST_LINES: Final = 3
"""How many of a log's last lines are read where `error` says nothing: a model's exception is what it ends with."""

_CODE: Final = re.compile(r"\bE\d{3,4}\b")
_SAYS_NOTHING: Final = re.compile(
    r"\W*(?:(?:the )?(?:prediction|model|run|it|process) )?(?:has )?"
    r"(?:failed|error|errored|unknown(?: error)?|none|null|internal error|exception"
    r"|(?:exit(?:ed)?(?: with)?(?: (?:code|status))? \d+))?\W*",
    re.IGNORECASE,
)


def api_failure(answer: Answer, echoed: Sequence[str] = ()) -> Failure:
    """The failure that an answer of the API shows; `echoed` is what the caller wrote."""
    document = answer.document()
    title, detail = (
        value if isinstance(value, str) else "" for value in (document.get("title"), document.get("detail"))
    )
    fields = _invalid_fields(document)
    parts = (title, detail) if detail else (title, *fields)
    said = (*fields, *texts_in(document))
    message = ": ".join(part for part in parts if part) or "; ".join(said) or answer.text or "no words"
    evidence = Evidence(
        message, answer.status, answer.headers, code=title or None, said=said, echoed=(*echoed, *echoes_in(document))
    )
    return judge(API_ROWS, evidence)


def prediction_failure(error: JsonValue, logs: JsonValue = None, echoed: Sequence[str] = ()) -> Failure:
    """The failure that a prediction tells by its `error`; where that says nothing, by the end of its logs.

    `echoed` is what the caller wrote, which models print, too.
    """
    said = texts_in(error)
    message = error if isinstance(error, str) else "" if error is None else "; ".join(said) or str(error)
    if _SAYS_NOTHING.fullmatch(message):
        said = _last_lines(logs)
        message = message.strip() or "\n".join(said[-1:])
    code = _CODE.search(message)
    evidence = Evidence(
        message or "failed without a reason", code=code[0] if code else None, said=said, echoed=tuple(echoed)
    )
    return judge(PREDICTION_ROWS, evidence)


def _last_lines(logs: JsonValue) -> tuple[str, ...]:
    lines = [line.strip() for line in logs[-4_000:].splitlines()] if isinstance(logs, str) else []
    return tuple([line for line in lines if line][-LAST_LINES:])


def _invalid_fields(document: dict[str, JsonValue]) -> tuple[str, ...]:
    """What is wrong with single fields: in Replicate's own form, or in that of a model's server."""
    listed = document.get("invalid_fields")
    fields = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    named = [[text for name in ("field", "description") if isinstance(text := item.get(name), str)] for item in fields]
    return (*(": ".join(texts) for texts in named if texts), *map(in_words, listed_errors(document)))
