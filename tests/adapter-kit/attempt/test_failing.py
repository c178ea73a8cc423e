"""Steps after payment that fail: the word for each outcome, and when a failed try is logged and published."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import pytest
from tests.builders import artifact, changed, queued_attempt
from tests.builders import step_at_once as step

from adapter_kit.attempt.failing import LOG_EVERY_S, action_word
from adapter_kit.attempt.inputs import (
    CancelAnswered,
    Checked,
    Collected,
    CollectFailed,
    Due,
    Input,
    Searched,
    SubmitAnswered,
)
from adapter_kit.attempt.model import Attempt
from adapter_kit.engine.rows import dump, load
from adapter_kit.http.causes import error_word, status_word
from adapter_kit.port.outcomes import (
    Accepted,
    Broken,
    CancelPending,
    Failure,
    Missing,
    NoAnswer,
    NotFound,
    NotSent,
    Output,
    OutputPending,
    Produced,
    ProviderRef,
    Refused,
    Running,
    Throttled,
    Unclear,
    Unreadable,
)
from contracts.failures import FailureKind
from contracts.ids import job_id_for
from contracts.messages.attempts import AttemptProgressed

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
checked = partial(Checked, ref=ProviderRef("run-1", {}), asked_at=NOW)
searched = partial(Searched, asked_at=NOW)
cancel_answered = partial(CancelAnswered, asked_at=NOW)
collect_failed = partial(CollectFailed, asked_at=NOW)
QUEUED = queued_attempt(job_id_for("default", "failing"), NOW)
RUNNING = changed(QUEUED, state="running", accepted_at=NOW, started_at=NOW, stage="running")
COLLECTING = changed(RUNNING, state="collecting", outputs=(Output("https://files.example/a.wav"),))
CANCELLING = changed(RUNNING, state="cancelling", cancel_sent_at=NOW)
NO_CREDIT = Failure(FailureKind.INSUFFICIENT_BALANCE, "no credit")
LOST = Failure(FailureKind.OUTPUT_LOST, "the last try ended with ReadTimeout")
AWAY = collect_failed(LOST, final=False, word="timeout", host="files.example")
REFUSED = replace(AWAY, word="connect")
SILENT = checked(NoAnswer("no answer in time", word="timeout"))

WORDS: list[tuple[Input, str]] = [
    (SubmitAnswered(1, Accepted(ProviderRef("r", {}))), "ok"),
    (SubmitAnswered(1, Refused(NO_CREDIT)), "insufficient_balance"),
    (SubmitAnswered(1, Throttled(Failure(FailureKind.RATE_LIMITED, ""), None)), "rate_limited"),
    (SubmitAnswered(1, NotSent("")), "connect"),
    (SubmitAnswered(1, NotSent("", held_up=True)), "held_up"),
    (SubmitAnswered(1, Unclear("", word="http_5xx")), "http_5xx"),
    (checked(Running()), "ok"),
    (checked(Produced(())), "ok"),
    (checked(Broken(NO_CREDIT, may_have_cost=True)), "ok"),
    (checked(OutputPending("")), "not_yet"),
    (checked(Unreadable("", "")), "output_unreadable"),
    (checked(Missing("")), "missing"),
    (SILENT, "timeout"),
    (cancel_answered(CancelPending()), "ok"),
    (cancel_answered(NoAnswer("")), "no_answer"),
    (searched(NotFound(conclusive=True)), "ok"),
    (Collected((artifact(),)), "ok"),
    (AWAY, "timeout"),
    (collect_failed(Failure(FailureKind.STORE_FAILED, ""), final=False), "store_failed"),
]
ERRORS: list[tuple[Exception, str]] = [
    (httpx.ConnectTimeout(""), "connect"),
    (httpx.ConnectError(""), "connect"),
    (httpx.ReadTimeout(""), "timeout"),
    (TimeoutError(), "timeout"),
    (httpx.RemoteProtocolError(""), "broken_off"),
    (httpx.ReadError(""), "broken_off"),
    (httpx.DecodingError(""), "unreadable"),
    (KeyError(), "internal"),
]


@pytest.mark.parametrize(("input_", "word"), WORDS)
def test_the_outcome_of_an_action_is_one_word(input_: Input, word: str) -> None:
    assert action_word(input_) == word


@pytest.mark.parametrize(("error", "word"), ERRORS)
def test_an_error_of_the_network_is_one_word(error: Exception, word: str) -> None:
    assert error_word(error) == word


def test_a_status_is_the_word_of_its_class() -> None:
    assert [status_word(status) for status in (204, 302, 404, 503, 999)] == [
        "http_2xx", "http_3xx", "http_4xx", "http_5xx", "no_answer",
    ]  # fmt: skip


def after(attempt: Attempt, *inputs: Input, apart_s: float = 1.0) -> tuple[Attempt, list[AttemptProgressed]]:
    """The attempt after the inputs, with the events that were published."""
    events: list[AttemptProgressed] = []
    for n, input_ in enumerate(inputs):
        result = step(attempt, input_, NOW + timedelta(seconds=n * apart_s))
        attempt = load(dump(result.attempt), NOW)
        events += [event for event in result.events if isinstance(event, AttemptProgressed)]
    return attempt, events


def test_the_first_failed_fetch_is_published_and_the_next_ones_with_the_same_reason_are_not() -> None:
    attempt, [event] = after(COLLECTING, AWAY, AWAY, AWAY)
    assert (event.stage, event.reason) == ("collecting", "timeout")
    assert event.retry_at is not None
    assert event.message == (
        "the outputs could not be fetched yet from files.example: the last try ended with ReadTimeout; "
        f"tried again from {event.retry_at:%H:%M:%S} UTC on"
    )
    assert attempt.failing is not None
    assert (attempt.failing.step, attempt.failing.tries) == ("fetch", 3)


def test_each_reason_is_published_once_though_reasons_alternate() -> None:
    _, events = after(COLLECTING, AWAY, REFUSED, AWAY, REFUSED, AWAY)
    assert [event.reason for event in events] == ["timeout", "connect"]


def test_a_fetch_that_succeeds_ends_it() -> None:
    attempt, _ = after(COLLECTING, AWAY, Collected((artifact(),)))
    assert (attempt.state.name, attempt.failing) == ("succeeded", None)


def test_one_lost_answer_of_a_status_is_not_published_and_a_second_one_is() -> None:
    assert after(RUNNING, SILENT)[1] == []
    _, [event] = after(RUNNING, SILENT, SILENT, SILENT)
    assert (event.stage, event.reason) == ("running", "timeout")


def test_an_answer_after_that_is_published_so_that_the_attempt_no_longer_says_it() -> None:
    attempt, [_, event] = after(RUNNING, SILENT, SILENT, checked(Running()))
    assert (attempt.failing, event.message, event.reason) == (None, None, None)


def test_a_cancel_that_is_not_delivered_is_published_though_checks_between_are_answered() -> None:
    lost = cancel_answered(NoAnswer("reset", word="broken_off"))
    attempt, [event] = after(CANCELLING, lost, checked(Running()), Due(), lost)
    assert (attempt.state.name, event.reason) == ("cancelling", "broken_off")
    assert after(attempt, cancel_answered(CancelPending()))[0].failing is None


def test_an_ended_attempt_publishes_no_progress_and_still_counts_as_failing() -> None:
    ended = step(COLLECTING, AWAY, COLLECTING.deadline_at)
    assert ended.attempt.final
    assert ended.attempt.failing is not None
    assert not any(isinstance(event, AttemptProgressed) for event in ended.events)


def test_failed_tries_are_logged_once_a_minute() -> None:
    attempt, _ = after(COLLECTING, *[AWAY] * 7, apart_s=LOG_EVERY_S / 4)
    assert attempt.failing is not None
    assert attempt.failing.logged_at == NOW + timedelta(seconds=LOG_EVERY_S)
