"""Reading Replicate's answers about a run. Pure.

They are read as JSON, not through the SDK's models, which lack `aborted` and `data_removed`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
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
    Failure,
    Missing,
    NoAnswer,
    Produced,
    ProviderRef,
    Running,
    Stopped,
    Waiting,
)
from adapter_kit.port.provider import Stage
from adapter_kit.results.choose_outputs import read_outputs
from adapter_kit.results.refusals import refusal_in
from contracts.failures import FAILURES, FailureKind
from contracts.generation import PROVIDER_REF, Modality
from replicate_adapter.errors import prediction_failure

_ID: Final = re.compile(PROVIDER_REF)
_OVER: Final = ("succeeded", "failed", "canceled", "aborted")


def is_prediction_id(value: JsonValue) -> TypeGuard[str]:
    """Whether this is the id of a prediction, and safe as a part of a URL."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def ref_of(answer: Answer) -> ProviderRef | None:
    """The run that the answer to a create names; None if it names none."""
    return ref_in(answer.document())


def ref_in(prediction: dict[str, JsonValue]) -> ProviderRef | None:
    """The run of a prediction, by its id alone, from which the SDK makes the URLs; None if it has no valid id."""
    name = prediction.get("id")
    return ProviderRef(name, {}) if is_prediction_id(name) else None


def check_outcome(done: Exchange, modality: Modality, asked: JsonValue = None) -> CheckOutcome:
    """The state of a run.

    Text that was `asked` for may be repeated in the output, where it is no result, or in an error, where it is not
    Replicate's statement.
    """
    echoed = strings_in(asked)
    answer = done.answer
    if answer is None:
        return no_answer(done)
    if answer.status == HTTPStatus.NOT_FOUND:
        return Missing(sanitize(answer.text))
    if not answer.ok:
        return no_answer(done)
    prediction = answer.document()
    match prediction.get("status"):
        case "starting":
            return Waiting()
        case "processing":
            return Running()
        case "succeeded":
            return _produced(prediction, modality, asked)
        case "failed":
            failure = prediction_failure(prediction.get("error"), prediction.get("logs"), _echoed(prediction, echoed))
            # Replicate bills the run time, so a run that never started is free.
            return Broken(failure, may_have_cost=bool(prediction.get("started_at")))
        case "canceled":
            return Stopped(may_have_cost=True)
        case "aborted":
            return Stopped(may_have_cost=False)
        case unknown:
            return NoAnswer(sanitize(f"unknown status: {unknown!r}"))


def stage_of(prediction: dict[str, JsonValue]) -> Stage | None:
    """Whether a prediction waits, runs or has ended; None if its status is unknown."""
    match prediction.get("status"):
        case "starting":
            return "queued"
        case "processing":
            return "running"
        case status if status in _OVER:
            return "ended"
        case _:
            return None


def _echoed(prediction: dict[str, JsonValue], echoed: Sequence[str]) -> tuple[str, ...]:
    return (*echoed, *echoes_in({"input": prediction.get("input")}))


def _produced(prediction: dict[str, JsonValue], modality: Modality, asked: JsonValue) -> CheckOutcome:
    output = prediction.get("output")
    outcome = read_outputs(output, modality, raw_text(json.dumps(output)), [asked, prediction.get("input")])
    if isinstance(outcome, Produced):
        return outcome
    if (refused := _refusal(prediction, _echoed(prediction, strings_in(asked)))) is not None:
        return Broken(refused, may_have_cost=True)
    if prediction.get("data_removed") is True:
        return Broken(Failure(FailureKind.OUTPUT_LOST, "Replicate has removed the output"), may_have_cost=True)
    return outcome


def _refusal(prediction: dict[str, JsonValue], echoed: Sequence[str]) -> Failure | None:
    """The caller's mistake that a prediction without output names in its error, its logs or its output field."""
    error, logs, output = (prediction.get(name) for name in ("error", "logs", "output"))
    told = [prediction_failure(said, logs, echoed) for said in (error, None) if said or logs]
    refused = [failure for failure in told if FAILURES[failure.kind].callers_fault]
    return next(iter(refused), None) or refusal_in(output, (*echoed, *echoes_in(output)))


def read_callback(body: str) -> Callback | None:
    """The run that Replicate's callback is about: a prediction that has started or ended."""
    prediction = json_object(body)
    ref = ref_in(prediction)
    if ref is None:
        return None
    stage = stage_of(prediction)
    return Callback(ref, over=stage == "ended", at_work=stage == "running")


def read_result(body: str, modality: Modality, asked: JsonValue = None) -> Produced | None:
    """The outputs in Replicate's callback, which contains the prediction; None if it has not succeeded with outputs."""
    prediction = json_object(body)
    if prediction.get("status") != "succeeded":
        return None
    outcome = _produced(prediction, modality, asked)
    return outcome if isinstance(outcome, Produced) else None


def cancel_outcome(done: Exchange) -> CancelOutcome:
    """The result of a cancel. A run stopped before its start is `aborted`, and free."""
    answer = done.answer
    if answer is None:
        return no_answer(done)
    if answer.status == HTTPStatus.NOT_FOUND:
        return Missing(sanitize(answer.text))
    if not answer.ok:
        return AlreadyOver() if is_definite(answer) else no_answer(done)
    match answer.document().get("status"):
        case "aborted":
            return Stopped(may_have_cost=False)
        case "canceled":
            return Stopped(may_have_cost=True)
        case "succeeded" | "failed":
            return AlreadyOver()
        case _:
            return CancelPending()
