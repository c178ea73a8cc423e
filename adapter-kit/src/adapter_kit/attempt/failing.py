"""Steps after payment that fail and are tried again: when that is logged, and when an event says so. Pure.

The run is paid for, so these steps are tried for minutes. Whoever waits for the job has to see why it does not end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from adapter_kit.attempt.inputs import (
    CancelAnswered,
    Checked,
    Collected,
    CollectFailed,
    Input,
    Searched,
    SubmitAnswered,
)
from adapter_kit.attempt.model import Attempt, Step, with_event
from adapter_kit.attempt.states import Closed, Collecting, Failing, Fetching
from adapter_kit.port.outcomes import Missing, NoAnswer, OutputPending
from adapter_kit.port.words import OK, outcome_word
from contracts.messages.attempts import AttemptProgressed

LOG_EVERY_S: Final = 60.0
"""Seconds between two log records about failed tries of one attempt."""
_REPORTED_FROM: Final = {"fetch": 1, "check": 2, "cancel": 2}
"""The failed try from which on an event is published: one answer of a status that is lost means nothing."""
_LONGEST_CHARS: Final = 1500
_TEXTS: Final = {
    "fetch": "the outputs could not be fetched yet",
    "check": "the provider could not be asked how the run stands",
    "cancel": "the cancel could not be delivered to the provider",
}
_UNKNOWN: Final = "the provider does not know the run"


@dataclass(frozen=True, slots=True)
class FailedTry:
    """A try of a step after payment that failed, and that is not the last one."""

    step: Literal["fetch", "check", "cancel"]
    word: str
    message: str
    host: str | None = None


def action_word(input_: Input) -> str:
    """The outcome of an action in one word: `ok`, a FailureKind, or an ErrorWord; `ok` for any other input."""
    match input_:
        case SubmitAnswered(outcome=outcome) | Checked(outcome=outcome):
            return outcome_word(outcome)
        case CancelAnswered(outcome) | Searched(outcome):
            return outcome_word(outcome)
        case CollectFailed(failure):
            return input_.word or failure.kind.value
        case _:
            return OK


def failed_try(attempt: Attempt, input_: Input) -> FailedTry | None:
    """What failed, if the input is a failed try of a step that is repeated; None for any other input."""
    match input_:
        case CollectFailed(failure, final=False):
            return FailedTry("fetch", action_word(input_), failure.message, input_.host)
        case Checked(_) if _reads_result_again(attempt):
            return None  # The outputs are fetched in any case, and that decides.
        case CancelAnswered(NoAnswer(reason)):
            return FailedTry("cancel", action_word(input_), reason)
        case Checked(OutputPending(reason) | NoAnswer(reason, finished=True)):
            return FailedTry("fetch", action_word(input_), reason)
        case Checked(NoAnswer(reason) | Missing(reason)):
            finished = isinstance(attempt.state, Collecting)
            return FailedTry("fetch" if finished else "check", action_word(input_), reason)
        case _:
            return None


def _reads_result_again(attempt: Attempt) -> bool:
    match attempt.state:
        case Collecting(files=files):
            return bool(files.outputs)
        case Closed(follow_up=Fetching()):
            return True
        case _:
            return False


def noted(before: Attempt, input_: Input, result: Step, now: datetime) -> Step:
    """The step with the failed try, if the input is one, in the attempt, and in an event if nobody knows of it yet."""
    failed = failed_try(before, input_)
    if failed is None:
        return _without(before, input_, result, now)
    attempt = result.attempt
    if attempt.next_action_at is None:
        return replace(result, attempt=replace(attempt, failing=None))
    old = before.failing
    logged = old is not None and now < old.logged_at + timedelta(seconds=LOG_EVERY_S)
    failing = Failing(
        failed.step,
        failed.word,
        1 if old is None else old.tries + 1,
        old.logged_at if logged and old is not None else now,
        () if old is None else old.reported,
    )
    return _with_report(replace(result, attempt=replace(attempt, failing=failing)), failed, failing, now)


def _with_report(result: Step, failed: FailedTry, failing: Failing, now: datetime) -> Step:
    key = f"{failed.step}:{failed.word}"
    known = key in failing.reported or failing.tries < _REPORTED_FROM[failed.step]
    if result.attempt.final or result.action is not None or (known and not result.events):
        return result
    attempt = replace(result.attempt, failing=replace(failing, reported=(*failing.reported, key)))
    fields = {"message": _text(attempt, failed), "reason": failed.word, "retry_at": attempt.next_action_at}
    match result.events:
        case ():
            return with_event(attempt, AttemptProgressed, now, stage=_stage(attempt), **fields)
        case (AttemptProgressed() as said,):
            return replace(result, attempt=attempt, events=(said.model_copy(update=fields),))
        case _:
            return result


def _without(before: Attempt, input_: Input, result: Step, now: datetime) -> Step:
    """The step of an input that is no failed try; what has failed may be over by it."""
    failing, attempt = before.failing, result.attempt
    if failing is None or not (_is_over(before, input_, failing) or attempt.next_action_at is None):
        return result
    healed = replace(attempt, failing=None)
    if not failing.reported or result.events or attempt.final:
        return replace(result, attempt=healed)
    # Without an event the attempt would go on to say that the step fails.
    return with_event(
        healed, AttemptProgressed, now, result.action, stage=_stage(healed), queue_position=_place(healed)
    )


def _is_over(before: Attempt, input_: Input, failing: Failing) -> bool:
    match input_:
        case Collected() | CollectFailed(final=True):
            return True
        case CancelAnswered():
            return failing.step == "cancel"
        case Checked():
            finished = isinstance(before.state, Collecting) or before.final
            return failing.step == "check" or (failing.step == "fetch" and not finished)
        case _:
            return False


def _text(attempt: Attempt, failed: FailedTry) -> str:
    # The texts of a provider are stored, which its NUL and its lone surrogates would prevent.
    said = failed.message.replace("\x00", "").encode("utf-8", "replace").decode()[:_LONGEST_CHARS]
    host = f" from {failed.host}" if failed.host else ""
    # It is said once for each reason, and stays while the step goes on failing.
    again = f"; tried again from {attempt.next_action_at:%H:%M:%S} UTC on" if attempt.next_action_at else ""
    what = _UNKNOWN if failed.word == "missing" else _TEXTS[failed.step]
    return f"{what}{host}: {said}{again}"


def _stage(attempt: Attempt) -> Literal["queued", "running", "collecting"]:
    if isinstance(attempt.state, Collecting):
        return "collecting"
    return (attempt.state.run.stage if attempt.state.run else None) or "queued"


def _place(attempt: Attempt) -> int | None:
    return attempt.state.run.queue_position if attempt.state.run else None
