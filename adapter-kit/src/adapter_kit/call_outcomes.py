"""What went wrong with a call, in one word of a small set, for traces. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from adapter_kit.attempt.inputs import CancelAnswered, Checked, CollectFailed, Input, Searched, SubmitAnswered
from adapter_kit.port.outcomes import (
    CallbackRefused,
    Failure,
    Missing,
    NoAnswer,
    NotSent,
    OutputPending,
    Refused,
    Throttled,
    Unclear,
    Unreadable,
)

_WORDS: Final[dict[type[object], str]] = {
    NotSent: "not_sent",
    Unclear: "unclear",
    NoAnswer: "no_answer",
    Missing: "missing",
    OutputPending: "output_pending",
    Unreadable: "unreadable",
}


@dataclass(frozen=True, slots=True)
class CallFailure:
    """Why a call failed."""

    word: str
    """A kind of failure, or one of a few words for a call without a usable answer."""
    message: str
    http_status: int | None = None


def call_failure(input_: Input) -> CallFailure | None:
    """Why the call with this outcome failed; None if it did what it was for, as to report that a run has failed."""
    match input_:
        case SubmitAnswered(_, Refused(failure) | CallbackRefused(failure) | Throttled(failure, _)):
            return _of(failure)
        case CollectFailed(failure):
            return _of(failure)
        case SubmitAnswered(_, outcome):
            return _in_a_word(outcome)
        case Checked(outcome) | CancelAnswered(outcome) | Searched(outcome):
            return _in_a_word(outcome)
        case _:
            return None


def _of(failure: Failure) -> CallFailure:
    return CallFailure(failure.kind.value, failure.message, failure.http_status)


def _in_a_word(outcome: object) -> CallFailure | None:
    match outcome:
        case NotSent(reason) | Unclear(reason) | NoAnswer(reason) | Missing(reason) | OutputPending(reason):
            return CallFailure(_WORDS[type(outcome)], reason)
        case Unreadable(reason, _):
            return CallFailure(_WORDS[Unreadable], reason)
        case _:
            return None
