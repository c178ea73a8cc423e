"""The attempt machine, one transition a row; properties of any sequence of inputs are in flow/test_paid_once.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from pydantic_core import from_json, to_json
from tests.builders import changed as at
from tests.builders import fetch_by, follow_up_of, lost_of, queued_attempt, run_of
from tests.builders import step_at_once as step

from adapter_kit.attempt.actions import Cancel, Check, Collect, Post, Search
from adapter_kit.attempt.ambiguous import CONCLUSIVE_AFTER_S, proven_absent_at
from adapter_kit.attempt.cancelling import CANCEL_WATCH_S
from adapter_kit.attempt.inputs import (
    CalledBack,
    CancelAnswered,
    CancelWanted,
    Checked,
    Collected,
    CollectFailed,
    CollectWanted,
    Due,
    Input,
    Resolved,
    Searched,
    ShutOut,
    SubmitAnswered,
)
from adapter_kit.attempt.machine import is_foreign
from adapter_kit.attempt.model import LEASE_S, TIMES_UNKNOWN, Attempt, backoff_s
from adapter_kit.attempt.running import next_look_s, poll_interval_s
from adapter_kit.attempt.states import Collecting
from adapter_kit.attempt.submitting import NOT_SENT_TRIES
from adapter_kit.engine.rows import dump, load
from adapter_kit.port.outcomes import (
    Accepted,
    AlreadyOver,
    Broken,
    CallbackRefused,
    CancelPending,
    Failure,
    Found,
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
    Stopped,
    Throttled,
    Unclear,
    Unreadable,
    Waiting,
)
from contracts.failures import FailureKind
from contracts.ids import job_id_for
from contracts.messages.attempts import Artifact, AttemptFailed, AttemptSucceeded

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOB = job_id_for("default", "attempt")
REF = ProviderRef("run-1", {})
checked = partial(Checked, ref=REF, asked_at=NOW)
searched = partial(Searched, asked_at=NOW)
cancel_answered = partial(CancelAnswered, asked_at=NOW)
collect_failed = partial(CollectFailed, asked_at=NOW)
ARTIFACT = Artifact(name="audio.wav", content_type="audio/wav", size_bytes=1, sha256="0" * 64)
NO_CREDIT = Failure(FailureKind.INSUFFICIENT_BALANCE, "no credit", "balance", 403)
LATER = NOW + timedelta(seconds=300)
QUEUED = queued_attempt(job_id_for("default", "attempt"), NOW)
SUBMITTING = at(QUEUED, state="submitting", submissions=1, submit_started_at=NOW)
AMBIGUOUS = at(SUBMITTING, state="ambiguous", resolve_by=NOW + timedelta(seconds=240), listing_answered_at=LATER)
RUNNING = at(SUBMITTING, state="running", ref=REF, accepted_at=NOW)
NOT_DUE = at(RUNNING, next_action_at=NOW + timedelta(seconds=5))
STARTED = at(RUNNING, started_at=NOW, stage="running")
COLLECTING = at(STARTED, state="collecting", outputs=(Output("https://files.example/a.wav"),))
CANCELLING = at(RUNNING, state="cancelling", cancel_reason="client", cancel_sent_at=NOW)
CALLED = at(SUBMITTING, expects_callback=True)
OUR_ADDRESS = CallbackRefused(Failure(FailureKind.CALLBACK_REFUSED, "webhook: Does not match format 'uri'", None, 422))
BY_REF, UNNAMED, OF_ANOTHER = CalledBack(REF), CalledBack(), CalledBack(ProviderRef("run-2", {}))
AUDIO = Produced((Output("https://files.example/a.wav"),))
WITH_OUTPUTS, OUTPUTS_OF_ANOTHER = replace(BY_REF, result=AUDIO), replace(OF_ANOTHER, result=AUDIO)
OUTPUTS_OF_NO_RUN = CalledBack(result=AUDIO)
AT_WORK, AT_WORK_OF_ANOTHER = replace(BY_REF, at_work=True), replace(OF_ANOTHER, at_work=True)


def answered(outcome: Any, submission: int = 1) -> SubmitAnswered:
    return SubmitAnswered(submission, outcome)


PENDING = step(STARTED, checked(OutputPending("null")), NOW).attempt
WINDOW_ENDS = NOW + timedelta(minutes=15)
TIMED_OUT = at(CANCELLING, cancel_reason="run_timeout", times_unknown=TIMES_UNKNOWN - 1)
SIGNED = (Output("https://files.example/a.wav?sig=2"), Output("https://files.example/b.wav?sig=2"))
BESIDE = OutputPending("null", (Output("https://files.example/film.mp4"),))
FINISHED_UNREAD = NoAnswer("HTTP 500", finished=True)
GONE = Failure(FailureKind.OUTPUT_LOST, "404")
REFUSED = Failure(FailureKind.OUTPUT_REFUSED, "egress")
ROWS: list[tuple[str, Attempt, Input, str, list[str], str | None, datetime]] = [
    ("the intent", QUEUED, Due(), "submitting", ["submitting"], "Post", NOW),
    ("too late to send", QUEUED, Due(), "failed", ["failed"], None, QUEUED.deadline_at),
    ("cancelled unsent", QUEUED, CancelWanted("client"), "cancelled", ["cancelled"], None, NOW),
    ("accepted", SUBMITTING, answered(Accepted(REF)), "running", ["submitted"], None, NOW),
    ("refused", SUBMITTING, answered(Refused(NO_CREDIT)), "failed", ["failed"], None, NOW),
    ("not sent", SUBMITTING, answered(NotSent("refused")), "queued", ["progressed"], None, NOW),
    ("throttled", SUBMITTING, answered(Throttled(NO_CREDIT, 2)), "queued", ["progressed"], None, NOW),
    ("throttled for too long", SUBMITTING, answered(Throttled(NO_CREDIT, 60)), "failed", ["failed"], None, NOW),
    ("refused for the callback", CALLED, answered(OUR_ADDRESS), "queued", ["progressed"], None, NOW),
    ("refused for no callback", SUBMITTING, answered(OUR_ADDRESS), "failed", ["failed"], None, NOW),
    (
        "refused for the callback, and cancelled",
        at(CALLED, cancel_reason="client"),
        answered(OUR_ADDRESS),
        "cancelled",
        ["cancelled"],
        None,
        NOW,
    ),
    (
        "refused for the callback, late",
        at(AMBIGUOUS, expects_callback=True),
        answered(OUR_ADDRESS),
        "queued",
        ["progressed"],
        None,
        NOW,
    ),
    ("unclear", SUBMITTING, answered(Unclear("reset")), "ambiguous", ["ambiguous"], None, NOW),
    ("the poster died", SUBMITTING, Due(), "ambiguous", ["ambiguous"], None, NOW),
    ("an older submission's answer", SUBMITTING, answered(Accepted(REF), 0), "submitting", [], None, NOW),
    ("cancel while submitting waits", SUBMITTING, CancelWanted("client"), "submitting", [], None, NOW),
    ("the answer came after all", AMBIGUOUS, answered(Accepted(REF)), "running", ["submitted"], None, NOW),
    ("unclear twice", AMBIGUOUS, answered(Unclear("reset")), "ambiguous", [], None, NOW),
    ("look for it", AMBIGUOUS, Due(), "ambiguous", [], "Search", NOW),
    ("found", AMBIGUOUS, searched(Found(REF)), "running", ["submitted"], None, NOW),
    ("not found yet", AMBIGUOUS, searched(NotFound(conclusive=False)), "ambiguous", [], None, NOW),
    ("not found by the end", AMBIGUOUS, searched(NotFound(conclusive=False)), "failed", ["failed"], None, LATER),
    ("not in a complete list at once", AMBIGUOUS, searched(NotFound(conclusive=True)), "ambiguous", [], None, NOW),
    (
        "not in a complete list",
        AMBIGUOUS,
        searched(NotFound(conclusive=True)),
        "failed",
        ["failed"],
        None,
        NOW + timedelta(seconds=LEASE_S / 2 + 30 + CONCLUSIVE_AFTER_S),
    ),
    ("deaf is no evidence", AMBIGUOUS, searched(NoAnswer("away")), "ambiguous", [], None, LATER),
    ("deaf to the end", AMBIGUOUS, Due(), "failed", ["failed"], None, QUEUED.deadline_at),
    ("look", RUNNING, Due(), "running", [], "Check", NOW),
    ("called back", RUNNING, BY_REF, "running", [], None, NOW),
    ("called back at its start", NOT_DUE, AT_WORK, "running", ["progressed"], None, NOW),
    ("called back at its start, when it is due", RUNNING, AT_WORK, "running", [], None, NOW),
    ("called back at its start, which was known", STARTED, AT_WORK, "running", [], None, NOW),
    ("called back at its start, after its end", PENDING, AT_WORK, "collecting", [], None, NOW),
    ("called back at the start of another", RUNNING, AT_WORK_OF_ANOTHER, "running", [], None, NOW),
    (
        "called back at its start before the answer",
        SUBMITTING,
        AT_WORK,
        "running",
        ["submitted", "progressed"],
        None,
        NOW,
    ),
    ("called back at its start, when it is to be stopped", CANCELLING, AT_WORK, "cancelling", [], None, NOW),
    ("called back before the answer", SUBMITTING, BY_REF, "running", ["submitted"], None, NOW),
    ("called back instead of the answer", AMBIGUOUS, BY_REF, "running", ["submitted"], None, NOW),
    (
        "called back though it was not sent",
        at(SUBMITTING, state="queued"),
        BY_REF,
        "running",
        ["submitted"],
        None,
        NOW,
    ),
    (
        "called back about what is to be cancelled",
        at(AMBIGUOUS, cancel_reason="client"),
        BY_REF,
        "cancelling",
        ["submitted"],
        None,
        NOW,
    ),
    ("called back with the outputs", RUNNING, WITH_OUTPUTS, "collecting", ["progressed"], None, NOW),
    ("called back with the outputs again", COLLECTING, WITH_OUTPUTS, "collecting", [], None, NOW),
    (
        "called back with the outputs before the answer",
        SUBMITTING,
        WITH_OUTPUTS,
        "collecting",
        ["submitted", "progressed"],
        None,
        NOW,
    ),
    (
        "called back with the outputs before the answer, when it is to be cancelled",
        at(SUBMITTING, cancel_reason="client"),
        WITH_OUTPUTS,
        "collecting",
        ["submitted", "progressed"],
        None,
        NOW,
    ),
    (
        "called back with the outputs of what is to be cancelled",
        CANCELLING,
        WITH_OUTPUTS,
        "collecting",
        ["progressed"],
        None,
        NOW,
    ),
    ("called back with the outputs of no run", STARTED, OUTPUTS_OF_NO_RUN, "running", [], None, NOW),
    ("called back with the outputs of another run", STARTED, OUTPUTS_OF_ANOTHER, "running", [], None, NOW),
    ("called back by nobody knows what", SUBMITTING, UNNAMED, "submitting", [], None, NOW),
    ("called back by one of ours", AMBIGUOUS, UNNAMED, "ambiguous", [], None, NOW),
    ("called back by another run", STARTED, OF_ANOTHER, "running", [], None, NOW),
    ("called back while it is collected", COLLECTING, BY_REF, "collecting", [], None, NOW),
    ("the answer after the callback", RUNNING, answered(Accepted(REF)), "running", [], None, NOW),
    ("no answer after the callback", RUNNING, answered(Unclear("read timeout")), "running", [], None, NOW),
    ("refused after the callback", RUNNING, answered(Refused(NO_CREDIT)), "running", [], None, NOW),
    ("waiting", RUNNING, checked(Waiting(3)), "running", ["progressed"], None, NOW),
    ("started", RUNNING, checked(Running()), "running", ["progressed"], None, NOW),
    ("no news", STARTED, checked(Running()), "running", [], None, NOW),
    ("produced", STARTED, checked(Produced(COLLECTING.files.outputs)), "collecting", ["progressed"], "Collect", NOW),
    ("broken", STARTED, checked(Broken(NO_CREDIT, may_have_cost=True)), "failed", ["failed"], None, NOW),
    ("stopped by the provider", STARTED, checked(Stopped(may_have_cost=True)), "failed", ["failed"], None, NOW),
    ("no answer", STARTED, checked(NoAnswer("502")), "running", [], None, NOW),
    ("missing once", STARTED, checked(Missing("404")), "running", ["progressed"], None, NOW),
    ("missing again", at(STARTED, times_unknown=9, fetch_by=LATER), checked(Missing("404")), "running", [], None, NOW),
    (
        "missing for good",
        at(STARTED, times_unknown=9, fetch_by=NOW),
        checked(Missing("404")),
        "failed",
        ["failed"],
        None,
        NOW,
    ),
    ("its output is late", STARTED, checked(OutputPending("null")), "collecting", ["progressed"], None, NOW),
    ("its result is not told", STARTED, checked(FINISHED_UNREAD), "collecting", ["progressed"], None, NOW),
    ("nor later", PENDING, checked(FINISHED_UNREAD), "collecting", ["progressed"], None, NOW),
    ("nor at the end", PENDING, checked(FINISHED_UNREAD), "failed", ["failed"], None, WINDOW_ENDS),
    ("nor after a cancel", CANCELLING, checked(FINISHED_UNREAD), "collecting", ["progressed"], None, NOW),
    ("it is asked for again", PENDING, Due(), "collecting", [], "Check", NOW),
    ("still late", PENDING, checked(OutputPending("null")), "collecting", [], None, NOW),
    ("nothing is heard of it", PENDING, checked(NoAnswer("502")), "collecting", ["progressed"], None, NOW),
    ("it runs again", PENDING, checked(Running()), "collecting", [], None, NOW),
    ("the run is forgotten", PENDING, checked(Missing("404")), "collecting", ["progressed"], None, NOW),
    ("it came", PENDING, checked(Produced(COLLECTING.files.outputs)), "collecting", ["progressed"], "Collect", NOW),
    ("it broke after all", PENDING, checked(Broken(NO_CREDIT, may_have_cost=True)), "failed", ["failed"], None, NOW),
    ("it was stopped after all", PENDING, checked(Stopped(may_have_cost=True)), "failed", ["failed"], None, NOW),
    ("lost", PENDING, checked(OutputPending("null")), "failed", ["failed"], None, WINDOW_ENDS),
    ("lost without an answer", PENDING, checked(NoAnswer("502")), "failed", ["failed"], None, WINDOW_ENDS),
    ("a result that cannot be read", STARTED, checked(Unreadable("no audio", "{}")), "failed", ["failed"], None, NOW),
    ("unreadable later", PENDING, checked(Unreadable("no audio", "{}")), "failed", ["failed"], None, NOW),
    ("an operator is early", PENDING, CollectWanted(), "collecting", [], None, NOW),
    ("never started", RUNNING, Due(), "cancelling", [], "Cancel", NOW + timedelta(seconds=61)),
    ("ran too long", STARTED, Due(), "cancelling", [], "Cancel", NOW + timedelta(seconds=121)),
    ("past the deadline", STARTED, Due(), "cancelling", [], "Cancel", QUEUED.deadline_at),
    ("cancel while running", STARTED, CancelWanted("client"), "cancelling", [], None, NOW),
    ("stored", COLLECTING, Collected((ARTIFACT,)), "succeeded", ["progressed", "succeeded"], None, NOW),
    ("collect again", COLLECTING, Due(), "collecting", [], "Collect", NOW),
    ("read the result anew", at(COLLECTING, tries=1), Due(), "collecting", [], "Check", NOW),
    ("and find new links", at(COLLECTING, tries=1), checked(Produced(SIGNED)), "collecting", [], "Collect", NOW),
    ("or none", at(COLLECTING, tries=1), checked(OutputPending("null")), "collecting", [], "Collect", NOW),
    ("or no answer", at(COLLECTING, tries=1), checked(FINISHED_UNREAD), "collecting", [], "Collect", NOW),
    ("or nobody who knows it", at(COLLECTING, tries=1), checked(Missing("404")), "collecting", [], "Collect", NOW),
    ("a film at first", STARTED, checked(BESIDE), "collecting", ["progressed"], None, NOW),
    ("a film to the end", PENDING, checked(BESIDE), "collecting", ["progressed"], "Collect", WINDOW_ENDS),
    ("output gone", COLLECTING, collect_failed(NO_CREDIT, final=True), "failed", ["failed"], None, NOW),
    ("download cut", COLLECTING, collect_failed(GONE, final=False), "collecting", ["progressed"], None, NOW),
    ("cut again", at(COLLECTING, tries=1), collect_failed(GONE, final=False), "collecting", ["progressed"], None, NOW),
    (
        "cut to the end",
        at(COLLECTING, fetch_by=NOW),
        collect_failed(GONE, final=False),
        "failed",
        ["failed"],
        None,
        NOW,
    ),
    ("a late look", COLLECTING, checked(Produced(COLLECTING.files.outputs)), "collecting", [], None, NOW),
    ("too late to cancel", COLLECTING, CancelWanted("client"), "collecting", [], None, NOW),
    (
        "cancel confirmed",
        CANCELLING,
        cancel_answered(Stopped(may_have_cost=False)),
        "cancelled",
        ["cancelled"],
        None,
        NOW,
    ),
    ("cancel noted", CANCELLING, cancel_answered(CancelPending()), "cancelling", [], None, NOW),
    ("cancel came too late", CANCELLING, cancel_answered(AlreadyOver()), "cancelling", [], "Check", NOW),
    ("cancel unanswered", CANCELLING, cancel_answered(NoAnswer("502")), "cancelling", [], None, NOW),
    ("cancel sent", at(CANCELLING, cancel_sent_at=None), Due(), "cancelling", [], "Cancel", NOW),
    ("cancel sent again", CANCELLING, Due(), "cancelling", [], "Cancel", NOW),
    ("no answer to the cancel: look", at(CANCELLING, tries=1), Due(), "cancelling", [], "Check", NOW),
    ("it goes on", at(CANCELLING, tries=1, stage="running"), checked(Running()), "cancelling", [], None, NOW),
    (
        "too late, and its output too",
        CANCELLING,
        checked(OutputPending("null")),
        "collecting",
        ["progressed"],
        None,
        NOW,
    ),
    (
        "cancel of what is forgotten",
        at(CANCELLING, times_unknown=3),
        cancel_answered(Missing("404")),
        "cancelled",
        ["cancelled"],
        None,
        NOW,
    ),
    (
        "which says nothing of a run",
        TIMED_OUT,
        cancel_answered(Missing("404")),
        "cancelling",
        ["progressed"],
        None,
        NOW,
    ),
    ("nor does a look", TIMED_OUT, checked(Missing("404")), "cancelling", ["progressed"], None, NOW),
    (
        "nor where a stop was promised",
        at(TIMED_OUT, cancel_answered=True),
        checked(Missing("404")),
        "cancelling",
        ["progressed"],
        None,
        NOW,
    ),
    (
        "nor for a start that was late",
        at(TIMED_OUT, cancel_answered=True, cancel_reason="start_timeout"),
        checked(Missing("404")),
        "cancelling",
        ["progressed"],
        None,
        NOW,
    ),
    (
        "but where it was asked for long",
        at(TIMED_OUT, fetch_by=NOW),
        checked(Missing("404")),
        "failed",
        ["failed"],
        None,
        NOW,
    ),
    ("cancelled, watched", at(CANCELLING, cancel_answered=True), Due(), "cancelling", [], "Check", NOW),
    (
        "finished all the same",
        CANCELLING,
        checked(Produced(COLLECTING.files.outputs)),
        "collecting",
        ["progressed"],
        "Collect",
        NOW,
    ),
    (
        "never heard of again",
        CANCELLING,
        Due(),
        "cancelled",
        ["cancelled"],
        None,
        max(NOW + timedelta(seconds=CANCEL_WATCH_S), QUEUED.deadline_at),
    ),
    ("deaf ends mattered not", at(QUEUED, state="failed", next_action_at=None), Due(), "failed", [], None, NOW),
]


@pytest.mark.parametrize(
    ("attempt", "input_", "state", "events", "action", "now"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_transitions(
    attempt: Attempt, input_: Input, state: str, events: list[str], action: str | None, now: datetime
) -> None:
    result = step(attempt, input_, now)
    assert result.attempt.state.name == state
    assert [event.TYPE.split(".")[2] for event in result.events] == events
    assert (type(result.action).__name__ if result.action else None) == action


@pytest.mark.parametrize("action", [Post, Check, Cancel, Search, Collect])
def test_every_action_is_leased(action: type) -> None:
    taken = [step(row[1], row[2], row[6]) for row in ROWS if row[5] == action.__name__]
    assert taken
    for result, row in zip(taken, [row for row in ROWS if row[5] == action.__name__], strict=True):
        assert result.attempt.next_action_at == row[6] + timedelta(seconds=LEASE_S)


def test_no_command_and_no_callback_leads_to_an_action() -> None:
    """The transaction of a batch steps its attempts by these, claims them, and starts the action of the claim alone."""
    commands = (CancelWanted("client"), CancelWanted("deadline"), CollectWanted(), Resolved(None, LATER))
    named = (Resolved(REF, LATER), AT_WORK, AT_WORK_OF_ANOTHER)
    called = (BY_REF, UNNAMED, OF_ANOTHER, WITH_OUTPUTS, OUTPUTS_OF_ANOTHER, OUTPUTS_OF_NO_RUN)
    given = (*commands, *named, *called)
    for attempt in (row[1] for row in ROWS):
        for first in given:
            after = step(attempt, first, NOW)
            assert after.action is None, (attempt, first)
            for second in given:
                assert step(after.attempt, second, LATER).action is None, (attempt, first, second)


def test_a_submit_that_is_never_sent_is_retried_a_bounded_number_of_times() -> None:
    attempt, tries = QUEUED, 0
    while attempt.state.name != "failed":
        tries += 1
        posting = step(attempt, Due(), NOW)
        assert isinstance(posting.action, Post)
        attempt = step(posting.attempt, SubmitAnswered(posting.action.submission, NotSent("refused")), NOW).attempt
    assert tries == NOT_SENT_TRIES
    assert attempt.failure is not None
    assert attempt.failure.kind is FailureKind.UNREACHABLE


@pytest.mark.parametrize(
    ("attempt", "input_", "kind"),
    [
        (
            at(CANCELLING, cancel_reason="start_timeout"),
            checked(Stopped(may_have_cost=False)),
            FailureKind.START_TIMEOUT,
        ),
        (
            at(CANCELLING, cancel_reason="run_timeout"),
            checked(Stopped(may_have_cost=True)),
            FailureKind.RUN_TIMEOUT,
        ),
        (RUNNING, checked(Stopped(may_have_cost=False)), FailureKind.START_TIMEOUT),
        (
            at(STARTED, accepted_at=NOW - timedelta(seconds=180)),
            checked(Stopped(may_have_cost=True)),
            FailureKind.RUN_TIMEOUT,
        ),
        (STARTED, checked(Stopped(may_have_cost=True)), FailureKind.CANCELLED_BY_PROVIDER),
        (at(STARTED, times_unknown=TIMES_UNKNOWN - 1, fetch_by=NOW), checked(Missing("404")), FailureKind.OUTPUT_LOST),
        (at(TIMED_OUT, fetch_by=NOW), checked(Missing("404")), FailureKind.RUN_TIMEOUT),
        (STARTED, checked(Unreadable("no audio", "{}")), FailureKind.OUTPUT_UNREADABLE),
        (at(PENDING, fetch_by=NOW), checked(OutputPending("null")), FailureKind.OUTPUT_LOST),
        (COLLECTING, collect_failed(REFUSED, final=True), FailureKind.OUTPUT_REFUSED),
    ],
)
def test_the_failure_kind_of_each_end(attempt: Attempt, input_: Input, kind: FailureKind) -> None:
    (event,) = step(attempt, input_, NOW).events
    assert isinstance(event, AttemptFailed)
    assert event.kind is kind


def test_only_an_accepted_run_can_have_cost() -> None:
    (refused,) = step(SUBMITTING, answered(Refused(NO_CREDIT)), NOW).events
    assert isinstance(refused, AttemptFailed)
    assert (refused.accepted, refused.cost_usd) == (False, 0.0)
    (broken,) = step(STARTED, checked(Broken(NO_CREDIT, may_have_cost=True)), NOW).events
    assert isinstance(broken, AttemptFailed)
    assert (broken.accepted, broken.cost_usd) == (True, 0.2)


def test_an_unavailable_store_does_not_end_an_attempt_before_its_deadline() -> None:
    unavailable = collect_failed(Failure(FailureKind.STORE_FAILED, "disk full"), final=False)
    often_tried = at(COLLECTING, tries=100)
    assert step(often_tried, unavailable, NOW).attempt.state.name == "collecting"
    assert step(often_tried, unavailable, QUEUED.deadline_at).attempt.state.name == "failed"


UNREACHED = collect_failed(Failure(FailureKind.OUTPUT_REFUSED, "no connection to it could be made"), final=False)


def test_an_output_host_that_was_never_reached_is_retried_until_the_deadline() -> None:
    collecting = at(COLLECTING, fetch_by=WINDOW_ENDS)
    for now in (NOW, WINDOW_ENDS, QUEUED.deadline_at - timedelta(seconds=1)):
        collecting = step(collecting, UNREACHED, now).attempt
        assert collecting.state.name == "collecting"
    (event,) = step(collecting, UNREACHED, QUEUED.deadline_at).events
    assert isinstance(event, AttemptFailed)
    assert event.kind is FailureKind.OUTPUT_REFUSED
    gone = replace(collect_failed(GONE, final=False), reached=frozenset({1}))
    assert step(collecting, gone, NOW).attempt.files.reached == frozenset({1})
    assert step(step(collecting, gone, NOW).attempt, UNREACHED, NOW).attempt.files.reached == frozenset({1})


OTHER_ARTIFACT = ARTIFACT.model_copy(update={"name": "audio-3.wav"})
STEMS = at(COLLECTING, outputs=COLLECTING.files.outputs[:1] * 3, fetch_by=WINDOW_ENDS)


def partly_failed(stored: dict[int, Artifact], missing: dict[int, str], kind: FailureKind = GONE.kind) -> CollectFailed:
    return collect_failed(Failure(kind, "output 2: 404"), final=False, stored=stored, missing=missing)


def test_at_the_end_of_the_window_the_stored_outputs_are_kept_and_the_missing_ones_named() -> None:
    one_missing = partly_failed({1: ARTIFACT, 3: OTHER_ARTIFACT}, {2: "output 2: 404"})
    again = step(STEMS, one_missing, NOW)
    assert again.attempt.state.name == "collecting"
    for kind in (GONE.kind, FailureKind.STORE_FAILED, FailureKind.OUTPUT_REFUSED):
        over = step(again.attempt, replace(one_missing, failure=Failure(kind, "output 2: 404")), WINDOW_ENDS)
        (event,) = over.events
        assert isinstance(event, AttemptSucceeded)
        assert (event.artifacts, event.cost_usd) == ((ARTIFACT, OTHER_ARTIFACT), 0.2)
        assert event.missing == "1 of 3 outputs could not be had: output 2: 404"
        assert (over.attempt.state.name, follow_up_of(over.attempt)) == ("succeeded", None)


def test_an_output_once_stored_is_kept_although_its_link_fails_later() -> None:
    first = step(STEMS, partly_failed({1: ARTIFACT}, {2: "output 2: 404", 3: "output 3: 404"}), NOW).attempt
    second = step(first, partly_failed({3: OTHER_ARTIFACT}, {1: "output 1: 403", 2: "output 2: 403"}), NOW).attempt
    (event,) = step(second, partly_failed({}, {n: f"output {n}: 403" for n in (1, 2, 3)}), WINDOW_ENDS).events
    assert isinstance(event, AttemptSucceeded)
    assert event.artifacts == (ARTIFACT, OTHER_ARTIFACT)
    assert event.missing == "1 of 3 outputs could not be had: output 2: 403"


def test_all_outputs_at_last_are_a_whole_success_and_none_is_a_failure() -> None:
    first = step(STEMS, partly_failed({1: ARTIFACT}, {2: "404", 3: "404"}), NOW).attempt
    event = step(first, Collected((ARTIFACT,) * 3), WINDOW_ENDS).events[-1]
    assert isinstance(event, AttemptSucceeded)
    assert event.missing is None
    (lost,) = step(STEMS, partly_failed({}, {1: "404", 2: "404", 3: "404"}), WINDOW_ENDS).events
    assert isinstance(lost, AttemptFailed)


def test_stored_outputs_and_reached_hosts_are_saved_with_the_attempt() -> None:
    noted = step(STEMS, replace(partly_failed({1: ARTIFACT}, {2: "404"}), reached=frozenset({1, 2})), NOW).attempt
    row = dump(noted)
    assert load(row, NOW) == noted
    older = {name: value for name, value in from_json(row).items() if name not in ("reached", "stored")}
    assert load(to_json(older).decode(), NOW).files.stored == {}


@pytest.mark.parametrize(
    ("attempt", "window_s"),
    [
        (STARTED, 900),
        (at(STARTED, lost_output_policy="fail"), 1_800),
        (at(STARTED, results_kept_s=360), 360),
        (at(STARTED, deadline_at=NOW + timedelta(seconds=40)), 30),
        (at(STARTED, deadline_at=NOW + timedelta(seconds=20)), 20),
        (CANCELLING, 30),
    ],
)
def test_the_window_for_an_output_is_a_share_of_the_time_left(attempt: Attempt, window_s: float) -> None:
    for outcome in (OutputPending("null"), Produced(COLLECTING.files.outputs)):
        finished = step(attempt, checked(outcome), NOW).attempt
        assert fetch_by(finished) == NOW + timedelta(seconds=window_s)


def test_the_window_starts_once_and_the_last_try_is_at_its_end() -> None:
    attempt, now, looks = PENDING, NOW, 0
    while attempt.state.name == "collecting":
        assert attempt.next_action_at is not None
        assert attempt.next_action_at <= WINDOW_ENDS
        now, looks = attempt.next_action_at, looks + 1
        looking = step(attempt, Due(), now)
        attempt = step(looking.attempt, checked(OutputPending("null")), now).attempt
        assert attempt.final or fetch_by(attempt) == WINDOW_ENDS
    assert now == WINDOW_ENDS
    assert 20 < looks < 60
    assert attempt.failure is not None
    assert (attempt.failure.kind, follow_up_of(attempt)) == (FailureKind.OUTPUT_LOST, "watch")


def test_expired_links_are_read_again_until_the_window_ends() -> None:
    attempt, now, links = step(STARTED, checked(Produced(SIGNED[:1])), NOW).attempt, NOW, [SIGNED[:1]]
    while attempt.state.name == "collecting":
        links.append((Output(f"https://files.example/a.wav?sig={len(links)}"),))
        attempt = step(attempt, collect_failed(GONE, final=False), now).attempt
        if attempt.state.name != "collecting":
            break
        assert attempt.next_action_at is not None
        now = attempt.next_action_at
        looking = step(attempt, Due(), now)
        assert looking.action == Check(REF, now)
        fetching = step(looking.attempt, checked(Produced(links[-1])), now)
        assert (fetching.action, fetching.events, fetching.attempt.files.outputs) == (Collect(now), (), links[-1])
        assert fetch_by(fetching.attempt) == WINDOW_ENDS
        attempt = fetching.attempt
    assert now == WINDOW_ENDS
    assert 20 < len(links) < 60
    assert (attempt.failure, follow_up_of(attempt)) == (GONE, "collect")


def test_a_stored_output_counts_while_its_number_names_the_same_file() -> None:
    a, b, c = (Output(f"https://files.example/{name}.wav?sig=1") for name in "abc")
    resigned = Output("https://files.example/a.wav?sig=2")
    tried = at(COLLECTING, outputs=(a, b), tries=1, stored={1: ARTIFACT, 2: ARTIFACT}, reached=frozenset({1, 2}))
    for named, kept in (((resigned, c), {1}), ((resigned, b, c), {1, 2}), ((c, a), set())):
        anew = step(tried, checked(Produced(named)), NOW).attempt
        assert (anew.files.outputs, set(anew.files.stored), set(anew.files.reached)) == (named, kept, kept)
    assert step(tried, checked(Produced((resigned,))), NOW).attempt.files.outputs == (a, b)


@pytest.mark.parametrize(("asked_s", "wait_s"), [(None, 1.5), (0.1, 1.5), (20, 20), (4_000, 30)])
def test_a_retry_time_of_the_provider_delays_the_next_look_up_to_a_bound(asked_s: float | None, wait_s: float) -> None:
    busy = checked(NoAnswer("HTTP 429", asked_s, finished=True))
    due = step(STARTED, busy, NOW).attempt.next_action_at
    assert due is not None
    assert due <= NOW + timedelta(seconds=wait_s)
    assert due >= NOW + timedelta(seconds=min(asked_s or 0, 30))
    near_the_end = WINDOW_ENDS - timedelta(seconds=3)
    last = step(PENDING, busy, near_the_end).attempt.next_action_at
    assert last is not None
    assert last <= WINDOW_ENDS


def test_a_substitute_for_an_output_is_fetched_at_the_end_of_the_window() -> None:
    taken = step(PENDING, checked(BESIDE), WINDOW_ENDS).attempt
    assert taken.files.outputs == BESIDE.instead
    assert step(taken, Collected((ARTIFACT,)), WINDOW_ENDS).attempt.state.name == "succeeded"
    assert step(taken, collect_failed(GONE, final=False), WINDOW_ENDS).attempt.state.name == "failed"


def test_a_run_that_was_missing_and_is_found_again_gets_a_full_window() -> None:
    missing = step(STARTED, checked(Missing("404")), NOW).attempt
    assert fetch_by(missing) == WINDOW_ENDS
    back = step(missing, checked(Running()), LATER).attempt
    assert fetch_by(back) is None


@pytest.mark.parametrize("reason", ["start_timeout", "run_timeout"])
def test_a_pending_cancel_is_not_the_end_of_a_run(reason: Any) -> None:
    promised = at(CANCELLING, cancel_reason=reason)
    attempt, now = step(promised, cancel_answered(CancelPending()), NOW).attempt, NOW
    while attempt.state.name == "cancelling":
        assert attempt.next_action_at is not None
        now = attempt.next_action_at
        looking = step(attempt, Due(), now)
        assert looking.action == Check(REF, now)
        attempt = step(looking.attempt, checked(Missing("404")), now).attempt
    assert now >= WINDOW_ENDS
    assert attempt.failure is not None
    assert attempt.failure.kind == reason


def test_a_cancel_leaves_a_finished_run_a_short_time_for_its_output() -> None:
    asked = step(at(COLLECTING, fetch_by=WINDOW_ENDS), CancelWanted("client"), NOW).attempt
    sooner = NOW + timedelta(seconds=30)
    assert fetch_by(asked) == sooner
    assert step(asked, collect_failed(GONE, final=False), sooner).attempt.state.name == "failed"


def test_a_providers_text_is_shortened_and_sanitized_before_it_is_stored() -> None:
    refusal = Failure(FailureKind.UNKNOWN, "a\x00b\ud800" + "x" * 5000, code="c\x00" * 500)
    (event,) = step(SUBMITTING, answered(Refused(refusal)), NOW).events
    assert isinstance(event, AttemptFailed)
    assert event.message.startswith("ab?")
    assert len(event.message) == 2000
    assert event.error_code is not None
    assert "\x00" not in event.error_code


def test_success_carries_the_artifacts_and_the_price() -> None:
    event = step(COLLECTING, Collected((ARTIFACT,)), NOW).events[-1]
    assert isinstance(event, AttemptSucceeded)
    assert (event.artifacts, event.cost_usd) == ((ARTIFACT,), 0.2)


def test_backoff_grows_and_is_bounded() -> None:
    waits = [backoff_s(QUEUED.attempt_id, tries) for tries in range(1, 12)]
    assert waits[0] < waits[3] < waits[5]
    assert max(waits) <= 37.5
    assert poll_interval_s(0) < 1 < poll_interval_s(20) <= poll_interval_s(10_000) == 5.0


@pytest.mark.parametrize("attempt", [SUBMITTING, AMBIGUOUS, RUNNING, CANCELLING])
def test_a_callback_makes_the_attempt_due_at_once(attempt: Attempt) -> None:
    called = step(attempt, BY_REF, NOW).attempt
    assert (called.next_action_at, called.called_back) == (NOW, True)
    assert called.ref == REF


def test_a_run_that_is_known_to_have_started_by_a_callback_is_not_cancelled_at_its_start_deadline() -> None:
    told = step(RUNNING, AT_WORK, NOW).attempt
    late = NOW + timedelta(seconds=RUNNING.start_within_s + 1)
    assert step(told, Due(), late).attempt.state.name == "running"
    assert step(RUNNING, Due(), late).attempt.state.name == "cancelling"


def test_a_late_callback_at_the_start_does_not_change_when_the_run_is_checked() -> None:
    for known in (STARTED, PENDING):
        assert replace(step(known, AT_WORK, LATER).attempt, called_back=False) == replace(known, called_back=False)


def test_a_callback_at_the_start_that_is_read_after_that_at_the_end_leaves_the_attempt_due() -> None:
    over = step(at(NOT_DUE, expects_callback=True), BY_REF, NOW).attempt
    for late_s in (0, 3):
        now = NOW + timedelta(seconds=late_s)
        told = step(over, AT_WORK, now)
        assert (told.attempt.next_action_at, told.events) == (NOW, ())
        assert run_of(told.attempt).started_at == now
        assert isinstance(step(told.attempt, Due(), now).action, Check)
        checked_now = step(told.attempt, checked(Running()), now)
        assert [event.TYPE.split(".")[2] for event in checked_now.events] == ["progressed"]
        assert run_of(checked_now.attempt).started_at == now


def test_a_callback_about_another_run_changes_nothing() -> None:
    assert step(STARTED, OF_ANOTHER, NOW).attempt == STARTED


@pytest.mark.parametrize(
    ("attempt", "foreign"),
    [(RUNNING, False), (AMBIGUOUS, False), (at(RUNNING, ref=ProviderRef("run-0", {})), True), (QUEUED, False)],
)
def test_a_run_other_than_the_attempts_own_is_foreign(attempt: Attempt, *, foreign: bool) -> None:
    assert is_foreign(attempt, REF) is foreign
    assert is_foreign(attempt, None) is False


def test_any_run_of_an_attempt_that_gave_up_is_foreign() -> None:
    given_up = at(AMBIGUOUS, state="failed", next_action_at=None)
    assert is_foreign(given_up, REF)
    assert not is_foreign(at(given_up, ref=REF), REF)


@pytest.mark.parametrize(("expected", "arrive", "wait_s"), [(True, True, 15), (True, False, 1), (False, True, 1)])
def test_polling_is_rare_where_callbacks_are_expected_and_arrive(
    *, expected: bool, arrive: bool, wait_s: float
) -> None:
    at_ten_s = NOW + timedelta(seconds=10)
    attempt = at(STARTED, expects_callback=expected)
    after = step(attempt, checked(Running(), callbacks_arrive=arrive), at_ten_s).attempt
    assert after.next_action_at == at_ten_s + timedelta(seconds=wait_s)


def test_rare_polling_still_looks_just_before_a_start_timeout() -> None:
    age_s, looks = 0.0, 0
    while (left_s := 60 - age_s) > 1:
        age_s += next_look_s(age_s, left_s, backstop=True)
        looks += 1
        assert age_s <= 60 + poll_interval_s(60)
    assert looks < 10
    assert next_look_s(20, None, backstop=True) == 15
    assert next_look_s(10_000, None, backstop=True) == 30


@pytest.mark.parametrize(("submissions", "words"), [(0, "not asked, since"), (1, "not asked again, since")])
def test_the_failure_of_an_attempt_turned_away_tells_whether_it_was_ever_sent(submissions: int, words: str) -> None:
    turned_away = step(at(QUEUED, submissions=submissions), ShutOut(LATER, "no credit"), NOW).attempt
    assert turned_away.failure is not None
    assert turned_away.failure.kind is FailureKind.UNAVAILABLE
    assert turned_away.failure.message == f"{words} it said before: no credit"


def test_a_refused_callback_is_submitted_once_more_to_the_same_provider() -> None:
    refused = step(CALLED, answered(OUR_ADDRESS), NOW)
    assert not refused.attempt.expects_callback
    assert "sent again without one" in refused.events[0].model_dump()["message"]
    again = step(refused.attempt, Due(), refused.attempt.next_action_at or NOW)
    assert again.action == Post(2)
    assert step(again.attempt, answered(OUR_ADDRESS, 1), NOW).attempt == again.attempt, "an answer to the first submit"
    last = step(again.attempt, answered(OUR_ADDRESS, 2), NOW)
    [failed] = last.events
    assert isinstance(failed, AttemptFailed)
    assert (failed.kind, failed.accepted, failed.known_cost_usd) == (FailureKind.CALLBACK_REFUSED, False, 0.0)


def proven_absent_after_s(attempt: Attempt) -> float:
    """Seconds from the submit until absence from a complete listing is proof."""
    return (proven_absent_at(attempt, lost_of(attempt), conclusive=True) - NOW).total_seconds()


def test_after_an_answer_absence_is_proven_sooner_than_after_none() -> None:
    listing_answered_at = NOW + timedelta(seconds=2)
    lost = step(SUBMITTING, answered(Unclear("no answer in time")), NOW + timedelta(seconds=30)).attempt
    told = step(SUBMITTING, answered(Unclear("HTTP 500", answered=True)), listing_answered_at).attempt
    proxy = step(SUBMITTING, answered(Unclear("HTTP 502 of a proxy")), listing_answered_at).attempt
    overdue = step(SUBMITTING, answered(Unclear("no answer in time")), NOW + timedelta(seconds=42)).attempt
    at_latest_s = LEASE_S / 2 + 30 + CONCLUSIVE_AFTER_S
    absent_after_s = [proven_absent_after_s(each) for each in (lost, told, proxy, overdue)]
    assert absent_after_s == [at_latest_s, 12, at_latest_s, 52]
    silent = searched(NotFound(conclusive=True))
    assert step(told, silent, listing_answered_at + timedelta(seconds=9)).attempt.state.name == "ambiguous"
    assert step(told, silent, listing_answered_at + timedelta(seconds=10)).attempt.state.name == "failed"


def test_an_answer_to_one_submit_does_not_shorten_the_wait_after_the_next() -> None:
    told = step(SUBMITTING, answered(Unclear("HTTP 500", answered=True)), NOW).attempt
    queued = step(told, answered(Throttled(NO_CREDIT, 1)), NOW).attempt
    again = step(queued, Due(), NOW).attempt
    died = step(again, Due(), NOW + timedelta(seconds=16)).attempt
    assert died.state.name == "ambiguous"
    assert proven_absent_after_s(died) == LEASE_S / 2 + 30 + CONCLUSIVE_AFTER_S


@pytest.mark.parametrize("answered_before", [False, True])
def test_an_outage_of_the_listing_extends_the_grace_even_if_it_ends_afterwards(answered_before: bool) -> None:
    lost = step(SUBMITTING, answered(Unclear("no answer in time")), NOW).attempt
    absent = searched(NotFound(conclusive=False))
    if answered_before:
        lost = step(lost, absent, NOW).attempt
    outage_s = (lost_of(lost).resolve_by - NOW).total_seconds() + 1
    back_at = NOW + timedelta(seconds=outage_s)
    away = step(lost, searched(NoAnswer("away")), back_at - timedelta(seconds=1)).attempt
    back = step(away, absent, back_at)
    assert (back.attempt.state.name, back.events) == ("ambiguous", ())
    over_at = lost_of(lost).resolve_by + timedelta(seconds=outage_s)
    asked = back.attempt
    while (due := asked.next_action_at) is not None and due < over_at:
        asked = step(asked, absent, due).attempt
        assert asked.state.name == "ambiguous"
    [failed] = step(asked, absent, over_at).events
    assert isinstance(failed, AttemptFailed)
    assert failed.kind is FailureKind.NEVER_ACCEPTED


@pytest.mark.parametrize(
    "attempt",
    [
        at(STARTED, fetch_by=NOW),
        at(PENDING, fetch_by=NOW),
        at(TIMED_OUT, fetch_by=NOW, times_unknown=0),
        at(CANCELLING, cancel_reason="client"),
    ],
)
def test_only_reports_of_the_provider_make_a_run_unknown(attempt: Attempt) -> None:
    missing, away = checked(Missing("404")), checked(NoAnswer("502"))
    first = at(attempt, tries=9)
    for input_ in (*[missing, away] * (TIMES_UNKNOWN - 1), missing):
        if not (isinstance(attempt.state, Collecting) and input_ is away):
            assert not first.final
            first = step(first, input_, NOW).attempt
    assert first.final


@pytest.mark.parametrize("attempt", [STARTED, CANCELLING])
def test_a_report_that_a_run_goes_on_starts_the_count_again(attempt: Attempt) -> None:
    known = step(at(attempt, times_unknown=3), checked(Running()), NOW).attempt
    assert run_of(known).times_unknown == 0
    ended = step(at(attempt, times_unknown=3), checked(OutputPending("null")), NOW).attempt
    assert run_of(ended).times_unknown == 0
