"""The outcome of a request to a provider in one word of a closed list, for metrics and spans. Pure."""

from __future__ import annotations

from adapter_kit.port.outcomes import (
    CallbackRefused,
    CancelOutcome,
    CheckOutcome,
    FindOutcome,
    Missing,
    NoAnswer,
    NotSent,
    OutputPending,
    Refused,
    SubmitOutcome,
    Throttled,
    Unclear,
    Unreadable,
)
from contracts.failures import FailureKind

OK = "ok"


def outcome_word(outcome: SubmitOutcome | CheckOutcome | CancelOutcome | FindOutcome) -> str:
    """`ok` if the provider answered what was asked, else a FailureKind or an ErrorWord.

    A check that finds that the run has failed is `ok`: the kinds of failure of runs are those of ended attempts.
    """
    match outcome:
        case Refused(failure) | CallbackRefused(failure) | Throttled(failure):
            return failure.kind.value
        case NotSent(held_up=True):
            return "held_up"
        case NotSent(word=word) | Unclear(word=word) | NoAnswer(word=word):
            return word
        case OutputPending():
            return "not_yet"
        case Unreadable():
            return FailureKind.OUTPUT_UNREADABLE.value
        case Missing():
            return "missing"
        case _:
            return OK
