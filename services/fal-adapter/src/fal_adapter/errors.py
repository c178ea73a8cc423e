"""What fal's errors mean: flat ones of its infrastructure, listed ones of the models, and those of proxies before it.

Source: fal's pages on request errors, model errors and request headers. Types come first, because a status alone
misleads: a 400 may be the provider's fault, and a 504 the start deadline that Segue itself set. Some types only say
that somebody else's service answered; of those, and of what has no type, the words count where they name a caller's
mistake.
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
"""Where the address for callbacks goes; a `webhook` in the body is an input of the model's."""

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
"""Types that fal documents for an input that a model cannot take, and Pydantic's for the same.

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
    # A firewall before fal may dislike one caller's words; that says nothing of the key.
    Row(FailureKind.UNKNOWN, status=403, page=True),
    Row(FailureKind.FORBIDDEN, status=403, says=ABOUT_ACCESS, yields=True),
    # What is said to one caller for reasons of its own shuts the endpoint for nobody.
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
"""How fal answers who asks for a result too early, with a 400."""

ENDED_WITHOUT_A_RUN: Final = frozenset(
    {
        ("runner_scheduling_failure", 503),
        ("runner_connection_refused", 503),
        ("runner_server_error", 500),
    }
)
"""Types with their statuses that, as the answer to a submit, prove that no run is left behind it that could be billed.

Such an answer is given when a request has failed, after all of fal's own tries. By the first two, no runner has had it;
after the third it is not tried again, and a 5xx is not billed
(https://fal.ai/docs/documentation/serverless/reliability/retries). The table in `docs/providers.md` has the others.
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
"""What a run cannot have failed by, once accepted: said of one, it is about a service that fal's model asked."""


def fal_failure(
    answer: Answer, error_type: JsonValue = None, error: JsonValue = None, echoed: Sequence[str] = ()
) -> Failure:
    """The failure that an answer shows.

    `error_type` and `error` are what a status said of it, where there was one; `echoed` is what the caller wrote.
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
    """The failure of an accepted run, by its status and the answer to the question for its result.

    What a model was told by a service of its own, "invalid API key" say, is not told to us; whatever the status, its
    words may name the caller's mistake.
    """
    failure = fal_failure(answer, status.get("error_type"), status.get("error"), echoed)
    if failure.kind not in _OF_OTHERS:
        return failure
    return replace(failure, kind=_kind_said(answer, echoed) or FailureKind.PROVIDER_ERROR)


def tells_of_failure(answer: Answer, failure: Failure, echoed: Sequence[str] = ()) -> bool:
    """Whether an error in the place of a result says itself that the run failed, of which it shows `failure`.

    So does the typed list of a model, a type of fal's infrastructure with a status that fal gives it, the header of the
    start deadline, and what names a caller's mistake. A status alone says nothing, nor does a page, nor the id that
    every answer of fal's has: it may as well be the question that failed.
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
    """Whether the body is a page, as proxies send it."""
    return Evidence(answer.text).is_page


def is_too_early(answer: Answer) -> bool:
    """Whether the answer says that the result is not there yet."""
    said = texts_in(answer.document()) or (answer.text,)
    return any(_TOO_EARLY.search(text[:1000]) for text in said)


def is_typed_by_model(answer: Answer) -> bool:
    """Whether the error is in the list form that models answer in, and not fal's queue."""
    return any(_texts([item.get("type")]) for item in listed_errors(answer.document()))


def ended_without_a_run(answer: Answer) -> bool:
    """Whether fal itself says, by body and header alike, that the submit has failed and left no run behind."""
    if answer.status == 504 and answer.headers.get(_TIMEOUT_TYPE[0]) == _TIMEOUT_TYPE[1]:
        # The start deadline has passed before any runner began: "never" tried again, and not billed.
        return True
    error_type = answer.document().get("error_type")
    return is_own_word(answer) and isinstance(error_type, str) and (error_type, answer.status) in ENDED_WITHOUT_A_RUN


def is_own_word(answer: Answer) -> bool:
    """Whether an error has a type of fal's, which its header bears out, or at least its id."""
    error_type = answer.document().get("error_type")
    header = answer.headers.get("x-fal-error-type")
    return isinstance(error_type, str) and (
        header == error_type or (header is None and "x-fal-request-id" in answer.headers)
    )


def _code_in(document: dict[str, JsonValue]) -> str | None:
    """The code of an error that a model passes on as an object, such as {"status": "bad_prompt", "message": …}."""
    passed_on = next((each for name in ("detail", "error") if isinstance(each := document.get(name), dict)), {})
    return next(iter(_texts([passed_on.get(name) for name in ("status", "code", "type", "name")])), None)


def _flat_message(document: dict[str, JsonValue]) -> str:
    return next(iter(_texts([document.get("detail"), document.get("error")])), "")


def _texts(values: Iterable[JsonValue]) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str) and value)
