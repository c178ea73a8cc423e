"""Outcomes that are recorded long after their actions were begun: they count from then on, and about their run only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.builders import changed, fetch_by, follow_up_of, lost_of, queued_attempt

from adapter_kit.attempt.actions import Check, Collect, Search
from adapter_kit.attempt.ambiguous import absence_is_proof_at, proven_absent_at
from adapter_kit.attempt.inputs import (
    CancelAnswered,
    Checked,
    CollectFailed,
    Due,
    Input,
    Resolved,
    Searched,
    SubmitAnswered,
)
from adapter_kit.attempt.machine import step
from adapter_kit.attempt.model import TIMES_UNKNOWN, Attempt
from adapter_kit.port.outcomes import (
    Failure,
    Missing,
    NoAnswer,
    NotFound,
    Output,
    OutputPending,
    Produced,
    ProviderRef,
    Running,
    Unclear,
)
from contracts.failures import FailureKind
from contracts.ids import job_id_for

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
REF, WRONG, RIGHT = ProviderRef("run-1", {}), ProviderRef("wrong", {}), ProviderRef("right", {})
QUEUED = queued_attempt(job_id_for("default", "late"), NOW)
SUBMITTING = changed(QUEUED, state="submitting", submissions=1, submit_started_at=NOW)
AMBIGUOUS = step(SUBMITTING, SubmitAnswered(1, Unclear("reset")), NOW).attempt
HELD = step(AMBIGUOUS, Due(), QUEUED.deadline_at).attempt
RUNNING = changed(QUEUED, state="running", ref=REF, accepted_at=NOW, submissions=1)
OUTPUTS = (Output("https://files.example/a.wav"),)
COLLECTING = changed(RUNNING, state="collecting", outputs=OUTPUTS, fetch_by=NOW + timedelta(seconds=60))
PENDING = changed(COLLECTING, outputs=(), tries=3, times_unknown=3)
UNKNOWN = changed(RUNNING, fetch_by=NOW + timedelta(seconds=60), times_unknown=TIMES_UNKNOWN)
GONE = Failure(FailureKind.OUTPUT_LOST, "404")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_a_search_begun_before_the_listing_could_show_the_run_proves_nothing_however_late_it_is_recorded() -> None:
    early = step(AMBIGUOUS, Searched(NotFound(conclusive=True), after(2)), after(60)).attempt
    assert (early.state.name, early.next_action_at) == ("ambiguous", after(60))
    again = step(early, Due(), after(60))
    assert again.action == Search(after(60))
    ended = step(again.attempt, Searched(NotFound(conclusive=True), after(60)), after(61)).attempt
    assert ended.failure is not None
    assert ended.failure.kind is FailureKind.NEVER_ACCEPTED


def test_nor_does_it_after_the_end_of_the_job() -> None:
    late = after(7_200)
    early = step(HELD, Searched(NotFound(conclusive=True), after(2)), late).attempt
    assert (early.state.name, follow_up_of(early), early.next_action_at) == ("failed", "search", late)
    assert early.failure is not None
    assert early.failure.kind is FailureKind.AMBIGUOUS_SUBMISSION


@pytest.mark.parametrize(("conclusive", "waits_s"), [(True, 60.0), (False, 300.0)])
def test_the_time_for_which_the_listing_did_not_answer_is_added_to_that_of_a_twin(
    conclusive: bool, waits_s: float
) -> None:
    """A complete listing shows each run at once, however long it was away."""
    lost = replace(lost_of(AMBIGUOUS), resolve_by=NOW, listing_downtime_s=240.0)
    early = absence_is_proof_at(AMBIGUOUS, lost, NotFound(conclusive, after(-1_000)))
    assert early == proven_absent_at(AMBIGUOUS, lost, conclusive=conclusive)
    assert absence_is_proof_at(AMBIGUOUS, lost, NotFound(conclusive, after(60))) == after(waits_s)


def test_a_listing_is_away_between_the_searches_that_it_answers_and_not_while_their_answers_are_recorded() -> None:
    first = step(AMBIGUOUS, Searched(NotFound(conclusive=False), after(40)), after(80)).attempt
    second = step(first, Searched(NotFound(conclusive=False), after(82)), after(180)).attempt
    assert (lost_of(second).listing_answered_at, lost_of(second).listing_downtime_s) == (after(82), 0)
    overtaken = step(second, Searched(NotFound(conclusive=False), after(60)), after(181)).attempt
    assert lost_of(overtaken) == lost_of(second)


TRIES: list[tuple[Attempt, Input]] = [
    (COLLECTING, CollectFailed(GONE, final=False, asked_at=after(1))),
    (PENDING, Checked(OutputPending("null"), REF, after(1))),
    (PENDING, Checked(NoAnswer("HTTP 500", finished=True), REF, after(1))),
    (PENDING, Checked(Missing("404"), REF, after(1))),
    (UNKNOWN, Checked(Missing("404"), REF, after(1))),
    (
        changed(UNKNOWN, state="cancelling", cancel_reason="run_timeout"),
        CancelAnswered(Missing("404"), after(1)),
    ),
]


@pytest.mark.parametrize(("attempt", "input_"), TRIES)
def test_a_try_begun_within_the_window_is_not_the_last_one_and_the_next_is_made_at_once(
    attempt: Attempt, input_: Input
) -> None:
    again = step(attempt, input_, after(90)).attempt
    assert (again.state.name, again.next_action_at) == (attempt.state.name, after(90))


@pytest.mark.parametrize(("attempt", "input_"), TRIES)
def test_after_the_deadline_of_the_job_any_try_is_the_last_one(attempt: Attempt, input_: Input) -> None:
    assert step(attempt, input_, QUEUED.deadline_at).attempt.final


def test_an_output_that_is_reported_during_an_outage_of_the_database_has_its_whole_window() -> None:
    produced = step(RUNNING, Checked(Produced(OUTPUTS), REF, after(1)), after(300))
    assert produced.action == Collect(after(300))
    assert fetch_by(produced.attempt) == after(300 + 750)


@pytest.mark.parametrize("attempt", [AMBIGUOUS, HELD])
@pytest.mark.parametrize("outcome", [Missing("404"), Running(), Produced(OUTPUTS)])
def test_the_check_of_a_run_that_an_operator_has_corrected_does_not_judge_the_next(
    attempt: Attempt, outcome: Missing | Running | Produced
) -> None:
    now = QUEUED.deadline_at - timedelta(seconds=1)
    wrong = step(attempt, Resolved(WRONG, now), now).attempt
    checking = step(wrong, Due(), now)
    assert checking.action == Check(WRONG, now)
    corrected = step(checking.attempt, Resolved(RIGHT, now), now).attempt
    late = step(corrected, Checked(outcome, WRONG, now), now)
    assert (late.attempt, late.events, late.action) == (corrected, (), None)
    known = step(corrected, Checked(Running(), RIGHT, now), now).attempt
    assert known.ref == RIGHT


def test_the_check_of_a_run_that_was_not_ours_does_not_judge_the_one_that_is() -> None:
    assert step(UNKNOWN, Checked(Missing("404"), WRONG, after(61)), after(61)).attempt == UNKNOWN
