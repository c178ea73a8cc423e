"""What fal's answers say about a run. Pure.

A run that failed is COMPLETED like any other; what went wrong is the answer to the question for its result.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final, TypeGuard

from pydantic import JsonValue

from adapter_kit.answers import is_definite, no_answer
from adapter_kit.judging import strings_in
from adapter_kit.outcomes import (
    AlreadyOver,
    Broken,
    Callback,
    CancelOutcome,
    CancelPending,
    CheckOutcome,
    Missing,
    NoAnswer,
    Produced,
    ProviderRef,
    Running,
    Stopped,
    Unreadable,
    Waiting,
)
from adapter_kit.outputs import read_outputs
from adapter_kit.wire import Answer, Exchange, json_object, raw_text, words
from contracts.failures import FAILURES, FailureKind
from contracts.generation import Modality
from fal_adapter.errors import STILL_IN_PROGRESS, is_typed_by_model, refusal_in, run_failure

URL_NAMES: Final = ("response_url", "status_url", "cancel_url")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
_ABOUT_THE_QUESTION: Final = frozenset({401, 408, 429})


def is_request_id(value: JsonValue) -> TypeGuard[str]:
    """Whether this can be the id of a request, and nothing else in a URL."""
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


def ref_of(answer: Answer) -> ProviderRef | None:
    """The run that the answer to a submit names, with the URLs as they were given."""
    document = answer.document()
    request_id = document.get("request_id")
    if not is_request_id(request_id):
        return None
    given = {name: document.get(name) for name in URL_NAMES}
    return ProviderRef(request_id, {name: url for name, url in given.items() if isinstance(url, str)})


def status_outcome(done: Exchange) -> CheckOutcome | Answer:
    """How a run stands; the answer itself where it has ended, and its result says how."""
    answer = done.answer
    if answer is None:
        return no_answer(done)
    if answer.status == HTTPStatus.NOT_FOUND:
        return Missing(words(answer.text))
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
            return NoAnswer(words(f"unknown status: {unknown!r}"))


def result_outcome(status: Answer, done: Exchange, modality: Modality, asked: JsonValue = None) -> CheckOutcome:
    """How a completed run ended, by its status and the answer to the question for its result.

    What was `asked` for may come back in the result, and is no output; repeated by an error, it is not fal's word.
    """
    answer = done.answer
    if answer is None:
        return no_answer(done)
    echoed = strings_in(asked)
    said = status.document()
    failed = bool(said.get("error") or said.get("error_type"))
    if answer.ok:
        outcome = _produced(done, answer, modality, asked, failed=failed)
        if isinstance(outcome, Produced):
            return outcome
        if (refusal := refusal_in(answer.document(), echoed)) is not None:
            return Broken(refusal, may_have_cost=True)
        if outcome is not None:
            return outcome
    failure = run_failure(answer, said, echoed)
    failed = failed or is_typed_by_model(answer) or FAILURES[failure.kind].callers_fault
    if not failed and answer.status == HTTPStatus.NOT_FOUND:
        return Missing(words(answer.text))
    if not failed and _is_about_the_question(answer):
        return no_answer(done)
    if failure.kind is FailureKind.CANCELLED_BY_PROVIDER:
        return Stopped(may_have_cost=True)
    return Broken(failure, may_have_cost=answer.status < 500)


def _produced(
    done: Exchange, answer: Answer, modality: Modality, asked: JsonValue, *, failed: bool
) -> CheckOutcome | None:
    """What a result holds; None where fal said that the run failed, and it holds nothing."""
    if answer.body.strip() and not answer.is_json:
        # A page of somebody on the way: the result is another one.
        return no_answer(done)
    outcome = read_outputs(answer.json(), modality, raw_text(answer.text), asked)
    if isinstance(outcome, Unreadable) and STILL_IN_PROGRESS in outcome.raw.lower():
        return no_answer(done)
    return None if failed and not isinstance(outcome, Produced) else outcome


def _is_about_the_question(answer: Answer) -> bool:
    """The question failed, not the run: it concerns the key, comes from a proxy, or the result is not there yet."""
    if answer.status in _ABOUT_THE_QUESTION or answer.status < 400:
        return True
    if answer.status == HTTPStatus.FORBIDDEN:
        return True
    if answer.status == HTTPStatus.BAD_REQUEST and STILL_IN_PROGRESS in answer.text.lower():
        return True
    return answer.status >= 500 and "x-fal-request-id" not in answer.headers and "detail" not in answer.document()


def read_callback(body: str) -> Callback | None:
    """What fal's webhook is about. It calls once a run has ended; what it says of the result is left aside."""
    request_id = json_object(body).get("request_id")
    return Callback(ProviderRef(request_id, {}), over=True) if is_request_id(request_id) else None


def cancel_outcome(done: Exchange) -> CancelOutcome:
    """What came of a cancel. Only a run that was taken out of the queue is known to be free."""
    answer = done.answer
    if answer is None:
        return no_answer(done)
    if answer.status == HTTPStatus.OK and answer.document().get("status") == "OK":
        return Stopped(may_have_cost=False)
    if answer.ok:
        return CancelPending()
    if answer.status == HTTPStatus.NOT_FOUND:
        return Missing(words(answer.text))
    return AlreadyOver() if is_definite(answer) else no_answer(done)
