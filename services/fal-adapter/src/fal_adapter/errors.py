"""The meaning of fal's errors: flat errors of its infrastructure, error lists of models, and errors of proxies.

Sources: fal's pages on request errors, model errors and request headers. The error type comes first, because a status
alone misleads: a 400 may be the provider's fault, and a 504 may be the start deadline that Segue itself set. Some types
say only that another service answered. For those, and for errors without a type, the message counts if it names a
mistake of the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
    texts_in,
)
from adapter_kit.phrases.reading import kind_said
from adapter_kit.port.outcomes import Failure
from contracts.failures import FAILURES, FailureKind

_TIMEOUT_TYPE: Final = ("x-fal-request-timeout-type", "user")

_ABOUT_WEBHOOK: Final = r"(?:query\.|header\.)?fal_webhook(?:\..*)?"
"""Where fal names the callback URL; a `webhook` in the body is an input of the model."""

CALLERS_TYPES: Final = frozenset(
    {
        *("greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "one_of", "enum"),
        *("literal_error", "missing", "value_error.missing", "extra_forbidden", "feature_not_supported"),
        *("sequence_too_short", "sequence_too_long", "too_short", "too_long", "invalid_archive"),
        *("string_too_short", "string_too_long", "string_type", "string_pattern_mismatch"),
        *("int_type", "int_parsing", "int_from_float", "float_type", "float_parsing", "bool_type", "bool_parsing"),
        *("list_type", "dict_type", "url_type", "url_parsing", "url_scheme", "url_too_long"),
        *("file_download_error", "file_too_large", "face_detection_error"),
        *("image_too_small", "image_too_large", "image_load_error"),
        *("unsupported_image_format", "unsupported_audio_format", "unsupported_video_format"),
        *("audio_duration_too_long", "audio_duration_too_short", "video_duration_too_long", "video_duration_too_short"),
        *("archive_file_count_below_minimum", "archive_file_count_exceeds_maximum"),
    }
)
"""Types that fal documents for invalid input of a model, and Pydantic's types for the same.

Sources: https://fal.ai/docs/documentation/model-apis/errors, https://docs.pydantic.dev/latest/errors/validation_errors/
"""

FAL_ROWS: Final = (
    Row(FailureKind.START_TIMEOUT, status=504, header=_TIMEOUT_TYPE),
    Row(FailureKind.START_TIMEOUT, types=frozenset({"startup_timeout"})),
    Row(FailureKind.RUN_TIMEOUT, types=frozenset({"request_timeout", "generation_timeout"})),
    Row(FailureKind.CONTENT_POLICY, types=frozenset({"content_policy_violation"})),
    Row(
        FailureKind.PROVIDER_ERROR,
        types=frozenset(
            {
                "runner_scheduling_failure",
                "runner_connection_timeout",
                "runner_disconnected",
                "runner_connection_refused",
                "runner_connection_error",
                "runner_incomplete_response",
            }
        ),
    ),
    Row(
        FailureKind.PROVIDER_ERROR,
        types=frozenset(
            {"downstream_service_error", "downstream_service_unavailable", "runner_server_error", "internal_error"}
        ),
        yields=True,
    ),
    Row(FailureKind.MODEL_ERROR, types=frozenset({"internal_server_error", "no_media_generated"}), yields=True),
    Row(FailureKind.CANCELLED_BY_PROVIDER, types=frozenset({"client_cancelled", "client_disconnected"})),
    Row(FailureKind.RATE_LIMITED, types=frozenset({"concurrent_requests_limit"})),
    Row(FailureKind.CALLBACK_REFUSED, status=(400, 422), field=_ABOUT_WEBHOOK),
    Row(FailureKind.INVALID_INPUT, types=CALLERS_TYPES, yields=True),
    Row(FailureKind.UNAUTHORIZED, status=401),
    Row(FailureKind.INSUFFICIENT_BALANCE, status=402),
    Row(
        FailureKind.INSUFFICIENT_BALANCE, status=(400, 499), says="exhausted balance|user is locked|top up your balance"
    ),
    # A firewall in front of fal may refuse the content of one request; that says nothing about the key.
    Row(FailureKind.UNKNOWN, status=403, page=True),
    Row(FailureKind.FORBIDDEN, status=403, says=ABOUT_ACCESS, yields=True),
    # A refusal for one caller's own reasons does not close the endpoint for others.
    Row(FailureKind.UNKNOWN, status=403, yields=True),
    Row(FailureKind.MODEL_NOT_FOUND, status=404, says=ABOUT_MODEL),
    Row(FailureKind.UNKNOWN, status=404, yields=True),
    Row(FailureKind.MODEL_NOT_FOUND, status=410),
    Row(FailureKind.RATE_LIMITED, status=429),
    Row(FailureKind.CALLBACK_REFUSED, status=(400, 422), says=ABOUT_CALLBACK, of_whole=True),
    Row(FailureKind.PROVIDER_ERROR, status=422, of_service=True, of_whole=True, yields=True),
    Row(FailureKind.INVALID_INPUT, status=422, yields=True),
    Row(FailureKind.INVALID_INPUT, status=413),
    Row(FailureKind.INVALID_INPUT, status=400, types=frozenset({"bad_request"}), yields=True),
    Row(FailureKind.PROVIDER_ERROR, status=(500, 599), yields=True),
)

_TOO_EARLY: Final = re.compile(
    r"\bstill (?:in progress|in (?:the )?queue|running|processing|queued|being processed|pending)\b"
    r"|\b(?:request|result|response|output|job|run|task|generation|prediction)s? (?:is|was|has|have|are)?\s?"
    r"(?:not|n't|isn't|hasn't|wasn't)(?: yet)?(?: been)? "
    r"(?:completed?|ready|finished|done|available|processed|generated)(?! (?:in|on|at|for|to|because|due)\b)"
    r"|\b(?:request|result|response|output|job|run|task) is (?:in progress|in (?:the )?queue|processing|pending)\b",
    re.IGNORECASE,
)
"""fal's answer, with a 400, to a request for a result that is not ready."""

ENDED_WITHOUT_A_RUN: Final = frozenset(
    {
        ("runner_scheduling_failure", 503),
        ("runner_connection_refused", 503),
        ("runner_server_error", 500),
    }
)
"""Pairs of error type and status that, as the answer to a submit, prove that there is no billable run.

fal gives such an answer when a request has failed after all of its own retries. With the first two, no runner received
the request; after the third there is no retry, and a 5xx is not billed
(https://fal.ai/docs/documentation/serverless/reliability/retries). The table in `docs/providers.md` lists the others.
"""

_OF_OTHERS: Final = frozenset(
    {
        FailureKind.UNAUTHORIZED,
        FailureKind.INSUFFICIENT_BALANCE,
        FailureKind.FORBIDDEN,
        FailureKind.MODEL_NOT_FOUND,
        FailureKind.RATE_LIMITED,
        FailureKind.CALLBACK_REFUSED,
    }
)
"""Failure kinds that an accepted run cannot have: they refer to another service that the model called."""


def fal_failure(
    answer: Answer, error_type: JsonValue = None, error: JsonValue = None, echoed: Sequence[str] = ()
) -> Failure:
    """The failure that an answer shows.

    `error_type` and `error` come from the run's status, if it had any; `echoed` is text that the caller wrote.
    """
    document = answer.document()
    details = listed_errors(document)
    types = _texts([item.get("type") for item in details])
    flat = _texts([document.get("error_type"), answer.headers.get("x-fal-error-type"), error_type])
    said = (*texts_in(document, echoed), *texts_in(error, echoed))
    message = "; ".join(describe(item) for item in details) if details else _flat_message(document)
    evidence = Evidence(
        message or "; ".join(said) or answer.text or "no words",
        answer.status,
        answer.headers,
        (*types, *flat),
        _code_in(document),
        said=said,
        echoed=(*echoed, *echoes_in(document, echoed)),
        fields=places_of(details),
    )
    return judge(FAL_ROWS, evidence)


def run_failure(answer: Answer, status: Mapping[str, JsonValue], echoed: Sequence[str] = ()) -> Failure:
    """The failure of an accepted run, from its status and the answer to the request for its result.

    An error that the model received from a service of its own, as "invalid API key", does not concern Segue's key.
    Whatever the status, the message may name a mistake of the caller.
    """
    failure = fal_failure(answer, status.get("error_type"), status.get("error"), echoed)
    if failure.kind not in _OF_OTHERS:
        return failure
    return replace(failure, kind=_kind_said(answer, echoed) or FailureKind.PROVIDER_ERROR)


def tells_of_failure(answer: Answer, failure: Failure, echoed: Sequence[str] = ()) -> bool:
    """Whether an error received in place of a result proves that the run failed, with `failure` as the reason.

    Proof is a model's typed error list, a type of fal's infrastructure with a status that belongs to it, the header of
    the start deadline, or a message that names the caller's mistake. A status alone, an HTML page or the request id
    that every answer of fal has prove nothing: the request for the result may have failed instead.
    """
    if is_page(answer):
        return False
    if is_typed_by_model(answer) or answer.headers.get(_TIMEOUT_TYPE[0]) == _TIMEOUT_TYPE[1]:
        return True
    early = is_too_early(answer)
    if FAILURES[failure.kind].callers_fault and (_kind_said(answer, echoed) or (answer.document() and not early)):
        return True
    flat = _texts([answer.document().get("error_type"), answer.headers.get("x-fal-error-type")])
    return bool(flat) and not early and (answer.status in (400, 499) or answer.status >= 500)


def _kind_said(answer: Answer, echoed: Sequence[str]) -> FailureKind | None:
    document = answer.document()
    said = texts_in(document) if document else () if is_page(answer) else (answer.text,)
    return kind_said(said, (*echoed, *echoes_in(document)))


def is_page(answer: Answer) -> bool:
    """Whether the body is an HTML page, as proxies send it."""
    return Evidence(answer.text).is_page


def is_too_early(answer: Answer) -> bool:
    """Whether the answer says that the result is not ready yet."""
    said = texts_in(answer.document()) or (answer.text,)
    return any(_TOO_EARLY.search(text[:1000]) for text in said)


def is_typed_by_model(answer: Answer) -> bool:
    """Whether the error has the list form that models use, and not the form of fal's queue."""
    return any(_texts([item.get("type")]) for item in listed_errors(answer.document()))


def ended_without_a_run(answer: Answer) -> bool:
    """Whether fal says, in body and header alike, that the submit has failed and left no run."""
    if answer.status == 504 and answer.headers.get(_TIMEOUT_TYPE[0]) == _TIMEOUT_TYPE[1]:
        # The start deadline passed before a runner began; fal never retries that, and does not bill it.
        return True
    error_type = answer.document().get("error_type")
    return is_own_word(answer) and isinstance(error_type, str) and (error_type, answer.status) in ENDED_WITHOUT_A_RUN


def is_own_word(answer: Answer) -> bool:
    """Whether an error has one of fal's types that its header confirms, or at least fal's request id."""
    error_type = answer.document().get("error_type")
    header = answer.headers.get("x-fal-error-type")
    return isinstance(error_type, str) and (
        header == error_type or (header is None and "x-fal-request-id" in answer.headers)
    )


def _code_in(document: dict[str, JsonValue]) -> str | None:
    """The code of an error that a model passes on as an object, as {"status": "bad_prompt", "message": …}."""
    passed_on = next((each for name in ("detail", "error") if isinstance(each := document.get(name), dict)), {})
    return next(iter(_texts([passed_on.get(name) for name in ("status", "code", "type", "name")])), None)


def _flat_message(document: dict[str, JsonValue]) -> str:
    return next(iter(_texts([document.get("detail"), document.get("error")])), "")


def _texts(values: Iterable[JsonValue]) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str) and value)
