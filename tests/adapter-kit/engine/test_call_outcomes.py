"""What went wrong with a call, in a word."""

from __future__ import annotations

import pytest

from adapter_kit.attempt.inputs import (
    CancelAnswered,
    Checked,
    Collected,
    CollectFailed,
    Input,
    Searched,
    SubmitAnswered,
)
from adapter_kit.call_outcomes import call_failure
from adapter_kit.port.outcomes import (
    Accepted,
    AlreadyOver,
    Broken,
    Failure,
    Missing,
    NoAnswer,
    NotFound,
    NotSent,
    ProviderRef,
    Refused,
    Running,
    Throttled,
    Unclear,
    Unreadable,
)
from contracts.failures import FailureKind

FAILURE = Failure(FailureKind.RATE_LIMITED, "too many", http_status=429)


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (SubmitAnswered(1, Accepted(ProviderRef("r", {}))), None),
        (SubmitAnswered(1, Refused(FAILURE)), "rate_limited"),
        (SubmitAnswered(1, Throttled(FAILURE, 3)), "rate_limited"),
        (SubmitAnswered(1, NotSent("no address")), "connect"),
        (SubmitAnswered(1, Unclear("no answer")), "no_answer"),
        (Checked(Running()), None),
        (Checked(Broken(FAILURE, may_have_cost=True)), None),
        (Checked(NoAnswer("away")), "no_answer"),
        (Checked(Unreadable("what is this", "{}")), "output_unreadable"),
        (CancelAnswered(AlreadyOver()), None),
        (CancelAnswered(Missing("gone")), "missing"),
        (Searched(NotFound(conclusive=True)), None),
        (Searched(NoAnswer("away")), "no_answer"),
        (Collected(()), None),
        (CollectFailed(FAILURE, final=False), "rate_limited"),
    ],
    ids=repr,
)
def test_each_outcome_is_a_failed_call_or_none(outcome: Input, word: str | None) -> None:
    failure = call_failure(outcome)
    assert (failure and failure.word) == word
