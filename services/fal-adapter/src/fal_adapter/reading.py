"""Reading fal's answers about a run. Pure.

A run that failed is COMPLETED like any other; the error is in the answer to the request for its result.
"""

from __future__ import annotations

import re
from dataclasses import replace
from http import HTTPStatus
from typing import Final, TypeGuard

from pydantic import JsonValue

from adapter_kit.http.answer import Answer, json_object
from adapter_kit.http.error_rules import echoes_in, strings_in
from adapter_kit.http.responses import is_definite, no_answer
from adapter_kit.http.sanitize import raw_text, sanitize
from adapter_kit.http.transport import Exchange
from adapter_kit.port.outcomes import (
    AlreadyOver,
    Broken,
    Callback,
    CancelOutcome,
    CancelPending,
    CheckOutcome,
    Missing,
    NoAnswer,
    OutputPending,
    Produced,
    ProviderRef,
    Running,
    Stopped,
    Waiting,
)
from adapter_kit.results.choose_outputs import read_outputs
from adapter_kit.results.refusals import refusal_in
from contracts.failures import FailureKind
from contracts.generation import PROVIDER_REF, Modality
from fal_adapter.errors import is_page, is_too_early, run_failure, tells_of_failure

URL_NAMES: Final = ("response_url", "status_url", "cancel_url")
_REQUEST_ID: Final = re.compile(PROVIDER_REF)


def is_request_id(value: JsonValue) -> TypeGuard[str]:
    """Whether this is the id of a request, and safe as a part of a URL."""
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


def ref_of(answer: Answer) -> ProviderRef | None:
    """The run that the answer to a submit names, with the URLs as returned; None if it names none."""
    document = answer.document()
    request_id = document.get("request_id")
    if not is_request_id(request_id):
        return None
    given = {name: document.get(name) for name in URL_NAMES}
    return ProviderRef(request_id, {name: url for name, url in given.items() if isinstance(url, str)})


def status_outcome(done: Exchange) -> CheckOutcome | Answer:
    """The state of a run; the answer itself if the run has ended, since only its result tells how."""
    answer = done.answer
    if answer is None:
        return no_answer(done)
    if answer.status == HTTPStatus.NOT_FOUND:
        return Missing(sanitize(answer.text))
    if not answer.ok:
        return no_answer(done)
    document = answer.document()
    match document.get("status"):
        case "IN_QUEUE":
            position = document.get("queue_position")
            return Waiting(position if isinstance(position, int) and position >= 0 else None)
        case "IN_PROGRESS":
            return Running()
        case "COMPLETED":
            return answer
        case unknown:
            return NoAnswer(sanitize(f"unknown status: {unknown!r}"))


def result_outcome(status: Answer, done: Exchange, modality: Modality, asked: JsonValue = None) -> CheckOutcome:
    """How a completed run ended, from its status and the answer to the request for its result.

    A failure is concluded only from what fal or its model says: an error in the status, a model's typed error list, a
    type of fal's own, or a message or status that names the caller's mistake. Any other error concerns the request
    itself, and the result is requested again. Text that was `asked` for may be repeated in the result, where it is no
    output, or in an error, where it is not fal's statement.
    """
    answer = done.answer
    if answer is None:
        return _not_told(done)
    echoed = strings_in(asked)
    said = status.document()
    failed = bool(said.get("error") or said.get("error_type"))
    if answer.ok:
        outcome = _produced(done, answer, modality, asked, failed=failed)
        if outcome is not None:
            return outcome
    failure = run_failure(answer, said, echoed)
    if not failed and not tells_of_failure(answer, failure, echoed):
        is_unknown = answer.status == HTTPStatus.NOT_FOUND and not is_page(answer)
        return Missing(sanitize(answer.text)) if is_unknown else _not_told(done)
    if failure.kind is FailureKind.CANCELLED_BY_PROVIDER:
        return Stopped(may_have_cost=True)
    return Broken(failure, may_have_cost=answer.status < 500)


def _not_told(done: Exchange) -> NoAnswer:
    """The request for the result of a finished run has failed, not the run."""
    return replace(no_answer(done), finished=True)


def _produced(
    done: Exchange, answer: Answer, modality: Modality, asked: JsonValue, *, failed: bool
) -> CheckOutcome | None:
    """The outputs of a result; None if fal reported a failure and there are no outputs."""
    if answer.body.strip() and not answer.is_json:
        # An HTML page of a proxy is not the result.
        return _not_told(done)
    result = answer.json()
    outcome = read_outputs(result, modality, raw_text(answer.text), asked)
    if isinstance(outcome, Produced):
        return outcome
    if (refusal := refusal_in(result, [*strings_in(asked), *echoes_in(result)])) is not None:
        return Broken(refusal, may_have_cost=True)
    if failed:
        return None
    if is_too_early(answer):
        return _not_told(done)
    if _is_status(answer.document()):
        return OutputPending("the answer is still a status and no result")
    return outcome


def _is_status(document: dict[str, JsonValue]) -> bool:
    told = document.get("status")
    return told in ("IN_QUEUE", "IN_PROGRESS") or (told == "COMPLETED" and "response_url" in document)


def read_callback(body: str) -> Callback | None:
    """The run that fal's callback is about, which has ended."""
    request_id = json_object(body).get("request_id")
    return Callback(ProviderRef(request_id, {}), over=True) if is_request_id(request_id) else None


def read_result(body: str, modality: Modality, asked: JsonValue = None) -> Produced | None:
    """The outputs in fal's callback; None if it reports an error, or contains no outputs.

    The payload is the result, and null if it could not be serialized.
    See https://fal.ai/docs/documentation/model-apis/inference/webhooks.
    """
    callback = json_object(body)
    payload = callback.get("payload")
    if callback.get("status") != "OK" or callback.get("error") or callback.get("payload_error") or not payload:
        return None
    outcome = read_outputs(payload, modality, raw="", asked=asked)
    return outcome if isinstance(outcome, Produced) else None


def cancel_outcome(done: Exchange) -> CancelOutcome:
    """The result of a cancel. Only a run that was removed from the queue is known to be free."""
    answer = done.answer
    if answer is None:
        return no_answer(done)
    if answer.status == HTTPStatus.OK and answer.document().get("status") == "OK":
        return Stopped(may_have_cost=False)
    said = answer.document().get("status") if answer.ok or is_definite(answer) else None
    if answer.status == HTTPStatus.NOT_FOUND or said == "NOT_FOUND":
        return Missing(sanitize(answer.text))
    if answer.ok and said != "ALREADY_COMPLETED":
        return CancelPending()
    return AlreadyOver() if answer.ok or is_definite(answer) else no_answer(done)
