"""What went wrong with a call, in a word."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

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
NOW = datetime(2026, 1, 1, tzinfo=UTC)
checked = partial(Checked, ref=ProviderRef("r", {}), asked_at=NOW)
searched = partial(Searched, asked_at=NOW)
cancel_answered = partial(CancelAnswered, asked_at=NOW)
collect_failed = partial(CollectFailed, asked_at=NOW)


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (SubmitAnswered(1, Accepted(ProviderRef("r", {}))), None),
        (SubmitAnswered(1, Refused(FAILURE)), "rate_limited"),
        (SubmitAnswered(1, Throttled(FAILURE, 3)), "rate_limited"),
        (SubmitAnswered(1, NotSent("no address")), "connect"),
        (SubmitAnswered(1, Unclear("no answer")), "no_answer"),
        (checked(Running()), None),
        (checked(Broken(FAILURE, may_have_cost=True)), None),
        (checked(NoAnswer("away")), "no_answer"),
        (checked(Unreadable("what is this", "{}")), "output_unreadable"),
        (cancel_answered(AlreadyOver()), None),
        (cancel_answered(Missing("gone")), "missing"),
        (searched(NotFound(conclusive=True)), None),
        (searched(NoAnswer("away")), "no_answer"),
        (Collected(()), None),
        (collect_failed(FAILURE, final=False), "rate_limited"),
    ],
    ids=repr,
)
def test_each_outcome_is_a_failed_call_or_none(outcome: Input, word: str | None) -> None:
    failure = call_failure(outcome)
    assert (failure and failure.word) == word
