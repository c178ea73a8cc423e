"""Why a call failed, for traces: in one word of a closed list, and in a message. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_kit.attempt.failing import action_word
from adapter_kit.attempt.inputs import CancelAnswered, Checked, CollectFailed, Input, Searched, SubmitAnswered
from adapter_kit.port.outcomes import CallbackRefused, Failure, Refused, Throttled
from adapter_kit.port.words import OK


@dataclass(frozen=True, slots=True)
class CallFailure:
    """Why a call failed."""

    word: str
    """A kind of failure, or an ErrorWord."""
    message: str
    http_status: int | None = None


def call_failure(input_: Input) -> CallFailure | None:
    """Why the call failed; None if it did what it was for, such as to report that a run has failed."""
    word = action_word(input_)
    if word == OK:
        return None
    match input_:
        case SubmitAnswered(_, Refused(failure) | CallbackRefused(failure) | Throttled(failure, _)):
            return _of(word, failure)
        case CollectFailed(failure):
            return _of(word, failure)
        case SubmitAnswered(_, outcome):
            return CallFailure(word, getattr(outcome, "reason", ""))
        case Checked(outcome) | CancelAnswered(outcome) | Searched(outcome):
            return CallFailure(word, getattr(outcome, "reason", ""))
        case _:
            return None


def _of(word: str, failure: Failure) -> CallFailure:
    return CallFailure(word, failure.message, failure.http_status)
