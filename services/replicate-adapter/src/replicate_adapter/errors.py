"""The meaning of Replicate's errors: problem documents of its API, and the errors of failed predictions.

Sources: Replicate's pages on its HTTP API and on error codes; "(E005)" and "(E006)" were observed. The error of a
prediction is mostly an exception of the model's own code, so its message counts if it names a mistake of the caller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from adapter_kit.http.answer import Answer
from adapter_kit.http.error_rules import (
    ABOUT_ACCESS,
    ABOUT_CALLBACK,
    ABOUT_MODEL,
    Evidence,
    Row,
    describe,
    echoes_in,
    judge,
    listed_errors,
    places_of,
    places_said,
    texts_in,
)
from adapter_kit.port.outcomes import Failure
from contracts.failures import FailureKind

_SENSITIVE: Final = r"\bE005\b|flagged as sensitive"
_BILLING: Final = r"\b(?:billing|payment|insufficient credit|spend(?:ing)? limit|free time limit)\b"

_ABOUT_WEBHOOK: Final = r"(?:body\.|query\.(?:fal_)?)?webhook(?:_events_filter)?(?:\..*)?"

API_ROWS: Final = (
    Row(FailureKind.UNAUTHORIZED, status=401),
    Row(FailureKind.INSUFFICIENT_BALANCE, status=402),
    Row(FailureKind.INSUFFICIENT_BALANCE, status=403, says=_BILLING),
    Row(FailureKind.INSUFFICIENT_BALANCE, status=(400, 499), says="insufficient credit"),
    # A firewall in front of Replicate may refuse the content of one request; that says nothing about the token.
    Row(FailureKind.UNKNOWN, status=403, page=True),
    Row(FailureKind.FORBIDDEN, status=403, says=ABOUT_ACCESS, yields=True),
    # A refusal for one caller's own reasons does not close the endpoint for others.
    Row(FailureKind.UNKNOWN, status=403, yields=True),
    Row(FailureKind.MODEL_NOT_FOUND, status=404, says=ABOUT_MODEL),
    Row(FailureKind.UNKNOWN, status=404, yields=True),
    Row(FailureKind.MODEL_NOT_FOUND, status=410),
    Row(FailureKind.RATE_LIMITED, status=429),
    Row(FailureKind.CONTENT_POLICY, status=422, says=_SENSITIVE),
    Row(FailureKind.MODEL_NOT_FOUND, status=422, says="invalid version or not permitted"),
    Row(FailureKind.CALLBACK_REFUSED, status=(400, 422), field=_ABOUT_WEBHOOK),
    Row(FailureKind.CALLBACK_REFUSED, status=(400, 422), says=ABOUT_CALLBACK, of_whole=True),
    Row(FailureKind.PROVIDER_ERROR, status=422, of_service=True, of_whole=True, yields=True),
    Row(FailureKind.INVALID_INPUT, status=422, yields=True),
    Row(FailureKind.INVALID_INPUT, status=413),
    Row(FailureKind.PROVIDER_ERROR, status=(500, 599), yields=True),
)
"""Errors of the API."""

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
"""Errors of failed predictions; an error without a row here is a failure of the model."""

LAST_LINES: Final = 3
"""Number of last log lines that are read if `error` has no content: a model's log ends with its exception.

Lines of progress bars are not counted.
"""
LOG_CHARS: Final = 20_000

_CODE: Final = re.compile(r"\bE\d{3,4}\b")
_NO_WORDS: Final = frozenset(
    """
    a an the this that it its of in on to for from with by at and or is was has have had be been not no your our
    error errors errored exception exceptions failed fail fails failure unknown unexpected unspecified internal server
    general generic fatal prediction predictions model run running process processing request task job inference script
    generation generate generating generated output outputs result results create creating produce execute execution
    music audio image images video track song media something went gone wrong occurred happened raised encountered hit
    while during when trying could unable couldn't can't cannot complete completed finish please try again later retry
    see check view logs log details detail more information info contact support none null exit exited status code
    returned non zero nonzero subprocess runtime value assertion http base sorry oops
    """.split()  # noqa: SIM905
)
"""Words without content: if an error consists only of them, the logs are read."""
_WORD: Final = re.compile(r"[a-z']+", re.IGNORECASE)
_CODES: Final = re.compile(r"\bE\d{3,4}\b|(?<=[a-z])(?=[A-Z](?:rror|xception))|[_-]")
_PROGRESS: Final = re.compile(
    r"\d ?%\||\d ?%\W*$|\b(?:it|s|[kMG]?i?B)/(?:s|it)\b|^\W*(?:step|epoch|iter\w*|progress|downloading|loading)\b.*\d"
    r"|^[\W\d]*$",
    re.IGNORECASE,
)
"""A line of a progress bar, in the form of tqdm."""
_PRINTED: Final = re.compile(r"\W*(?:\w+ ){0,2}(?:prompt|lyrics|input|text)\W+(.*)", re.IGNORECASE)


def api_failure(answer: Answer, echoed: Sequence[str] = ()) -> Failure:
    """The failure that an answer of the API shows; `echoed` is text that the caller wrote."""
    document = answer.document()
    title, detail = (
        value if isinstance(value, str) else "" for value in (document.get("title"), document.get("detail"))
    )
    fields = _invalid_fields(document)
    parts = (title, detail) if detail else (title, *fields)
    said = (*fields, *texts_in(document, echoed))
    message = ": ".join(part for part in parts if part) or "; ".join(said) or answer.text or "no words"
    evidence = Evidence(
        message,
        answer.status,
        answer.headers,
        code=title or None,
        said=said,
        echoed=(*echoed, *echoes_in(document, echoed)),
        fields=_places(document, detail),
    )
    return judge(API_ROWS, evidence)


def prediction_failure(error: JsonValue, logs: JsonValue = None, echoed: Sequence[str] = ()) -> Failure:
    """The failure of a prediction, from its `error` or, if that has no content, from the end of its logs.

    `echoed` is text that the caller wrote, which models print as well.
    """
    said = texts_in(error, echoed)
    message = error if isinstance(error, str) else "" if error is None else "; ".join(said) or str(error)
    if _says_nothing(message):
        said = _last_lines(logs, echoed)
        message = message.strip() or "\n".join(said[-1:])
    code = _CODE.search(message)
    evidence = Evidence(
        message or "failed without a reason", code=code[0] if code else None, said=said, echoed=tuple(echoed)
    )
    return judge(PREDICTION_ROWS, evidence)


def _says_nothing(message: str) -> bool:
    """Whether the message reports a failure without any detail."""
    return len(message) <= 300 and all(word.lower() in _NO_WORDS for word in _WORD.findall(_CODES.sub(" ", message)))


def _last_lines(logs: JsonValue, echoed: Sequence[str]) -> tuple[str, ...]:
    lines = [line.strip() for line in logs[-LOG_CHARS:].splitlines()] if isinstance(logs, str) else []
    said = [line for line in lines if line and not _PROGRESS.search(line) and not _prints(line, echoed)]
    return tuple(said[-LAST_LINES:])


def _prints(line: str, echoed: Sequence[str]) -> bool:
    """Whether the line repeats the caller's input, however short."""
    printed = _PRINTED.fullmatch(line)
    given = printed[1].strip(" '\"`") if printed else ""
    return bool(given) and any(given in each for each in echoed)


def _places(document: Mapping[str, JsonValue], detail: str) -> tuple[str, ...]:
    """The fields that an answer names."""
    listed = document.get("invalid_fields")
    named = [item.get("field") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return (
        *(name for name in named if isinstance(name, str)),
        *places_of(listed_errors(document)),
        *places_said(detail),
    )


def _invalid_fields(document: dict[str, JsonValue]) -> tuple[str, ...]:
    """The errors of single fields, in Replicate's own form or in that of a model's server."""
    listed = document.get("invalid_fields")
    fields = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    named = [[text for name in ("field", "description") if isinstance(text := item.get(name), str)] for item in fields]
    return (*(": ".join(texts) for texts in named if texts), *map(describe, listed_errors(document)))
