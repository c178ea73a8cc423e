"""The follow-up of a closed attempt, one transition a row; general properties are in flow/test_paid_once.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from tests.builders import changed, follow_up_of, lost_of, queued_attempt
from tests.builders import step_at_once as step

from adapter_kit.attempt.ambiguous import DOWN_AFTER_S, LAST_LOOK_S, listing_answered, proven_absent_at
from adapter_kit.attempt.inputs import (
    CalledBack,
    CancelAnswered,
    Checked,
    Collected,
    CollectFailed,
    CollectWanted,
    Due,
    Input,
    Resolved,
    Searched,
    SubmitAnswered,
)
from adapter_kit.attempt.model import FOLLOW_UP_S, TIMES_UNKNOWN, Attempt, Step
from adapter_kit.attempt.states import Closed, Fetching, Searching
from adapter_kit.port.outcomes import (
    Accepted,
    AlreadyOver,
    Broken,
    CancelPending,
    Failure,
    Found,
    Missing,
    NoAnswer,
    NotFound,
    Output,
    OutputPending,
    Produced,
    ProviderRef,
    Running,
    Stopped,
    Unclear,
    Unreadable,
)
from contracts.failures import FailureKind
from contracts.ids import job_id_for
from contracts.messages.attempts import Artifact, AttemptFailed, AttemptSucceeded

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOB = job_id_for("default", "late")
REF, OTHER = ProviderRef("run-1", {}), ProviderRef("run-2", {})
checked = partial(Checked, ref=REF, asked_at=NOW)
searched = partial(Searched, asked_at=NOW)
cancel_answered = partial(CancelAnswered, asked_at=NOW)
collect_failed = partial(CollectFailed, asked_at=NOW)
ARTIFACT = Artifact(name="audio.wav", content_type="audio/wav", size_bytes=1, sha256="0" * 64)
BROKE = Failure(FailureKind.MODEL_ERROR, "out of memory")
AMBIGUOUS = changed(
    queued_attempt(JOB, NOW - timedelta(minutes=30), deadline_at=NOW - timedelta(seconds=1)),
    state="ambiguous",
    version=2,
    submissions=1,
    submit_started_at=NOW - timedelta(minutes=29),
    resolve_by=NOW - timedelta(minutes=24),
    listing_answered_at=NOW,
    next_action_at=NOW,
)
HELD = step(AMBIGUOUS, Due(), NOW).attempt
RULED_OUT = step(AMBIGUOUS, Resolved(None, NOW), NOW).attempt
RUNNING = changed(AMBIGUOUS, state="running", ref=REF, accepted_at=NOW - timedelta(minutes=28))
CANCELLING = changed(RUNNING, state="cancelling", cancel_reason="deadline", cancel_sent_at=NOW - timedelta(minutes=11))
GIVEN_UP = step(CANCELLING, Due(), NOW).attempt
FOUND = step(HELD, searched(Found(REF)), NOW).attempt
SHOWN = step(HELD, CalledBack(REF), NOW).attempt
CLAIMED = step(HELD, Resolved(REF, NOW), NOW).attempt
WATCHED = changed(SHOWN, cancel_answered=True)
COLLECTING = changed(WATCHED, follow_up="collect", outputs=(Output("https://files.example/a.wav"),))
TRIED = changed(COLLECTING, tries=1)
SETTLED = step(changed(RUNNING, state="running"), checked(Broken(BROKE, may_have_cost=True)), NOW).attempt
NOTHING = searched(NotFound(conclusive=False))
STORE_AWAY = collect_failed(Failure(FailureKind.STORE_FAILED, "disk full"), final=False)
FETCHING = changed(RUNNING, state="collecting", outputs=(Output("https://files.example/a.wav"),))
CUT = step(FETCHING, STORE_AWAY, NOW).attempt
GONE = step(FETCHING, collect_failed(Failure(FailureKind.OUTPUT_LOST, "404"), final=False), NOW).attempt
REFUSED = step(FETCHING, collect_failed(Failure(FailureKind.OUTPUT_REFUSED, "egress"), final=True), NOW).attempt
UNREAD = step(RUNNING, checked(Unreadable("no audio in the result", "{}")), NOW).attempt
UNKNOWN = step(changed(RUNNING, times_unknown=TIMES_UNKNOWN), checked(Missing("404")), NOW).attempt
ASKED = step(REFUSED, CollectWanted(), NOW).attempt


def kind_of(attempt: Attempt) -> FailureKind | None:
    return attempt.failure.kind if attempt.failure else None


LOST, NEVER = FailureKind.AMBIGUOUS_SUBMISSION, FailureKind.NEVER_ACCEPTED
ROWS: list[tuple[str, Attempt, Input, tuple[str, FailureKind | None], list[str], str | None]] = [
    ("a callback shows it", HELD, CalledBack(REF), ("failed", LOST), [], None),
    ("a callback shows what was ruled out", RULED_OUT, CalledBack(REF), ("failed", NEVER), [], None),
    ("the lost answer comes", HELD, SubmitAnswered(1, Accepted(REF)), ("failed", LOST), [], None),
    ("no answer comes", HELD, SubmitAnswered(1, Unclear("reset")), ("failed", LOST), [], None),
    ("it is searched for", HELD, Due(), ("failed", LOST), [], "Search"),
    ("and found", HELD, searched(Found(REF)), ("failed", LOST), [], None),
    ("and known never to have been", HELD, NOTHING, ("failed", NEVER), ["failed"], None),
    ("and not to be heard of", HELD, searched(NoAnswer("502")), ("failed", LOST), [], None),
    ("what was found is stopped", FOUND, Due(), ("failed", LOST), [], "Cancel"),
    ("what was ruled out is not searched for", RULED_OUT, searched(Found(REF)), ("failed", NEVER), [], None),
    ("an operator found it", HELD, Resolved(REF, NOW), ("failed", LOST), [], None),
    ("an operator found none", HELD, Resolved(None, NOW), ("failed", NEVER), ["failed"], None),
    ("an operator says it again", RULED_OUT, Resolved(None, NOW), ("failed", NEVER), [], None),
    ("an operator's run is looked at", CLAIMED, Due(), ("failed", LOST), [], "Check"),
    ("and is not known", CLAIMED, checked(Missing("404")), ("failed", LOST), ["failed"], None),
    ("and cannot be asked about", CLAIMED, checked(NoAnswer("502")), ("failed", LOST), [], None),
    (
        "and is there",
        CLAIMED,
        checked(Produced((Output("https://files.example/a.wav"),))),
        ("failed", LOST),
        [],
        "Collect",
    ),
    ("an operator comes late", SHOWN, Resolved(None, NOW), ("failed", LOST), [], None),
    ("after a failure its result is read anew", TRIED, Due(), ("failed", LOST), [], "Check"),
    (
        "with new links",
        TRIED,
        checked(Produced((Output("https://files.example/b.wav"),))),
        ("failed", LOST),
        [],
        "Collect",
    ),
    ("or without", TRIED, checked(Missing("404")), ("failed", LOST), [], "Collect"),
    ("a look from before", COLLECTING, checked(Missing("404")), ("failed", LOST), [], None),
    ("what shows itself is stopped", SHOWN, Due(), ("failed", LOST), [], "Cancel"),
    ("stopped in time", SHOWN, cancel_answered(Stopped(may_have_cost=False)), ("cancelled", LOST), ["cancelled"], None),
    ("not stopped at once", SHOWN, cancel_answered(CancelPending()), ("failed", LOST), [], "Check"),
    ("over before", SHOWN, cancel_answered(AlreadyOver()), ("failed", LOST), [], "Check"),
    ("no answer to the cancel", SHOWN, cancel_answered(NoAnswer("502")), ("failed", LOST), [], None),
    ("looked after", WATCHED, Due(), ("failed", LOST), [], "Check"),
    ("still running", WATCHED, checked(Running()), ("failed", LOST), [], None),
    ("produced", WATCHED, checked(Produced(COLLECTING.files.outputs)), ("failed", LOST), [], "Collect"),
    ("broken", WATCHED, checked(Broken(BROKE, may_have_cost=True)), ("failed", BROKE.kind), ["failed"], None),
    ("missing once", WATCHED, checked(Missing("404")), ("failed", LOST), [], None),
    (
        "missing for good",
        changed(WATCHED, times_unknown=TIMES_UNKNOWN - 1),
        checked(Missing("404")),
        ("failed", FailureKind.OUTPUT_LOST),
        ["failed"],
        None,
    ),
    ("a second run of it", SHOWN, CalledBack(OTHER), ("failed", LOST), [], None),
    ("collect", COLLECTING, Due(), ("failed", LOST), [], "Collect"),
    ("the late result", COLLECTING, Collected((ARTIFACT,)), ("succeeded", None), ["succeeded"], None),
    ("our store is away", COLLECTING, STORE_AWAY, ("failed", LOST), [], None),
    ("the file is gone", COLLECTING, collect_failed(BROKE, final=True), ("failed", BROKE.kind), ["failed"], None),
    ("a cancel nobody confirmed", GIVEN_UP, Due(), ("cancelled", None), [], "Cancel"),
    ("confirmed after all", GIVEN_UP, checked(Stopped(may_have_cost=True)), ("cancelled", None), ["cancelled"], None),
    (
        "produced after the cancel",
        GIVEN_UP,
        checked(Produced(COLLECTING.files.outputs)),
        ("cancelled", None),
        [],
        "Collect",
    ),
    ("the store was away at the deadline", CUT, Due(), ("failed", FailureKind.STORE_FAILED), [], "Collect"),
    ("a file that was lost is asked for", GONE, Due(), ("failed", FailureKind.OUTPUT_LOST), [], "Collect"),
    ("and may appear", GONE, Collected((ARTIFACT,)), ("succeeded", None), ["succeeded"], None),
    ("what our settings refused rests", REFUSED, Due(), ("failed", FailureKind.OUTPUT_REFUSED), [], None),
    ("whatever is called back about it", REFUSED, CalledBack(REF), ("failed", FailureKind.OUTPUT_REFUSED), [], None),
    ("until an operator asks for it", REFUSED, CollectWanted(), ("failed", FailureKind.OUTPUT_REFUSED), [], None),
    ("its run is looked at", ASKED, Due(), ("failed", FailureKind.OUTPUT_REFUSED), [], "Check"),
    (
        "and fetched",
        ASKED,
        checked(Produced(COLLECTING.files.outputs)),
        ("failed", FailureKind.OUTPUT_REFUSED),
        [],
        "Collect",
    ),
    (
        "by its old address, if need be",
        ASKED,
        checked(Missing("404")),
        ("failed", FailureKind.OUTPUT_REFUSED),
        [],
        "Collect",
    ),
    ("its output is late", ASKED, checked(OutputPending("null")), ("failed", FailureKind.OUTPUT_REFUSED), [], None),
    (
        "what could not be read is read again",
        step(UNREAD, CollectWanted(), NOW).attempt,
        Due(),
        ("failed", FailureKind.OUTPUT_UNREADABLE),
        [],
        "Check",
    ),
    (
        "and still cannot be read",
        step(UNREAD, CollectWanted(), NOW).attempt,
        checked(Unreadable("no audio in the result", "{}")),
        ("failed", FailureKind.OUTPUT_UNREADABLE),
        ["failed"],
        None,
    ),
    ("a run that the provider forgot is stopped", UNKNOWN, Due(), ("failed", FailureKind.OUTPUT_LOST), [], "Cancel"),
    ("and followed", UNKNOWN, checked(Missing("404")), ("failed", FailureKind.OUTPUT_LOST), [], None),
    ("nothing is fetched for want of a run", HELD, CollectWanted(), ("failed", LOST), [], None),
    ("nor of what failed at the provider", SETTLED, CollectWanted(), ("failed", BROKE.kind), [], None),
    ("stored after the deadline", CUT, Collected((ARTIFACT,)), ("succeeded", None), ["succeeded"], None),
    ("what the provider settled stays", SETTLED, CalledBack(REF), ("failed", BROKE.kind), [], None),
    ("and is not for operators", SETTLED, Resolved(None, NOW), ("failed", BROKE.kind), [], None),
]


@pytest.mark.parametrize(
    ("attempt", "input_", "end", "events", "action"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_after_the_end(
    attempt: Attempt, input_: Input, end: tuple[str, FailureKind | None], events: list[str], action: str | None
) -> None:
    result = step(attempt, input_, NOW)
    assert (result.attempt.state.name, kind_of(result.attempt)) == end
    assert [event.TYPE.split(".")[2] for event in result.events] == events
    assert all(getattr(event, "late", False) for event in result.events)
    assert (type(result.action).__name__ if result.action else None) == action


@pytest.mark.parametrize("attempt", [UNREAD, SETTLED, WATCHED, SHOWN, COLLECTING, TRIED, ASKED, GIVEN_UP])
def test_the_answer_of_a_run_that_is_known_changes_nothing(attempt: Attempt) -> None:
    assert step(attempt, SubmitAnswered(1, Accepted(REF)), NOW) == Step(attempt)


def test_the_event_at_the_end_itself_is_not_late() -> None:
    for attempt in (AMBIGUOUS, CANCELLING, changed(RUNNING, state="collecting")):
        input_: Any = STORE_AWAY if attempt.state.name == "collecting" else Due()
        assert [getattr(event, "late", None) for event in step(attempt, input_, NOW).events] == [False]


def test_a_late_result_has_a_cost_and_a_run_that_never_existed_costs_nothing() -> None:
    (result,) = step(COLLECTING, Collected((ARTIFACT,)), NOW).events
    assert isinstance(result, AttemptSucceeded)
    assert (result.cost_usd, result.artifacts, result.provider_ref) == (0.2, (ARTIFACT,), "run-1")
    (held,) = step(AMBIGUOUS, Due(), NOW).events
    assert isinstance(held, AttemptFailed)
    assert held.cost_usd is None
    (never,) = step(HELD, Resolved(None, NOW), NOW).events
    assert isinstance(never, AttemptFailed)
    assert never.cost_usd == 0.0


def test_a_run_that_an_operator_named_is_checked_and_not_cancelled() -> None:
    assert type(step(step(HELD, Resolved(REF, NOW), NOW).attempt, Due(), NOW).action).__name__ == "Check"


def test_the_follow_up_ends_after_a_time_and_a_callback_restarts_it_at_any_time() -> None:
    after = NOW + timedelta(seconds=FOLLOW_UP_S)
    left = step(SHOWN, Due(), after).attempt
    assert (follow_up_of(left), left.next_action_at, left.state.name) == (None, None, "failed")
    again = step(left, CalledBack(REF), after).attempt
    assert (follow_up_of(again), again.next_action_at) == ("watch", after)


def test_checks_of_a_closed_attempt_become_rare() -> None:
    waits = []
    for age_s in (0, 100, 1_000, 10_000):
        now = NOW + timedelta(seconds=age_s)
        due = step(WATCHED, checked(Running()), now).attempt.next_action_at
        assert due is not None
        waits.append((due - now).total_seconds())
    assert waits == [5, 10, 100, 300]


def test_time_without_the_listing_does_not_count_towards_absence() -> None:
    by = NOW + timedelta(seconds=240)
    attempt = changed(AMBIGUOUS, submit_started_at=NOW, resolve_by=by, listing_answered_at=NOW)
    usual = listing_answered(lost_of(attempt), NOW + timedelta(seconds=DOWN_AFTER_S))
    assert (usual.listing_downtime_s, proven_absent_at(attempt, usual, conclusive=False)) == (0.0, by)
    after_downtime = listing_answered(lost_of(attempt), NOW + timedelta(seconds=100))
    assert (after_downtime.listing_downtime_s, proven_absent_at(attempt, after_downtime, conclusive=False)) == (
        100,
        by + timedelta(seconds=100),
    )
    assert proven_absent_at(attempt, after_downtime, conclusive=True) < by, "a complete list needs no grace"


def test_the_listing_is_searched_at_the_moment_when_absence_becomes_proof() -> None:
    by, deadline = NOW + timedelta(seconds=240), NOW + timedelta(seconds=900)
    lost = changed(
        AMBIGUOUS, submit_started_at=NOW, resolve_by=by, deadline_at=deadline, listing_answered_at=by, tries=50
    )
    assert step(lost, NOTHING, by - timedelta(seconds=3)).attempt.next_action_at == by
    asked = step(lost, Due(), by)
    assert type(asked.action).__name__ == "Search"
    assert kind_of(step(asked.attempt, NOTHING, by).attempt) is NEVER


@pytest.mark.parametrize("policy", ["hold", "resubmit"])
def test_a_lost_submit_ends_at_the_jobs_deadline_and_is_searched_for_after_it(policy: Any) -> None:
    by, deadline = NOW + timedelta(seconds=240), NOW + timedelta(seconds=30)
    lost = changed(
        AMBIGUOUS, submit_started_at=NOW, resolve_by=by, deadline_at=deadline, listing_answered_at=NOW, tries=50
    )
    for unfound in (NOTHING, searched(NoAnswer("502"))):
        again = step(changed(lost, ambiguity_policy=policy), unfound, deadline - timedelta(seconds=3)).attempt
        assert again.next_action_at == deadline
    held = step(changed(lost, ambiguity_policy=policy), Due(), deadline).attempt
    assert (held.state.name, kind_of(held), follow_up_of(held)) == ("failed", LOST, "search")
    held = changed(held, listing_answered_at=by - timedelta(seconds=30))
    assert step(held, NOTHING, by - timedelta(seconds=1)).attempt.next_action_at == by
    settled = step(held, NOTHING, by)
    (event,) = settled.events
    assert isinstance(event, AttemptFailed)
    assert (event.kind, event.late, event.cost_usd) == (NEVER, True, 0.0)
    assert settled.attempt.next_action_at is None


def test_a_search_after_the_end_of_the_job_ends_itself() -> None:
    by, deadline = NOW + timedelta(seconds=780), NOW + timedelta(seconds=30)
    lost = changed(
        AMBIGUOUS, submit_started_at=NOW, resolve_by=by, deadline_at=deadline, listing_answered_at=NOW, tries=50
    )
    attempt, now = step(lost, Due(), deadline).attempt, deadline
    while attempt.next_action_at is not None:
        now = attempt.next_action_at
        attempt = step(step(attempt, Due(), now).attempt, NOTHING, now).attempt
    assert (kind_of(attempt), now) == (NEVER, by)


def test_a_lost_submit_is_searched_for_longer_than_its_grace() -> None:
    held = step(changed(AMBIGUOUS, resolve_by=NOW + timedelta(hours=2)), Due(), NOW).attempt
    assert isinstance(held.state, Closed)
    assert held.state.follow_up == Searching(until=NOW + timedelta(hours=2, seconds=FOLLOW_UP_S))


def test_the_resubmit_policy_waits_for_the_grace_only() -> None:
    by, deadline = NOW + timedelta(seconds=240), NOW + timedelta(seconds=900)
    lost = changed(AMBIGUOUS, resolve_by=by, deadline_at=deadline)
    last = by + timedelta(seconds=LAST_LOOK_S)
    assert step(lost, Due(), last).attempt.state.name == "ambiguous"
    resubmitted = step(changed(lost, ambiguity_policy="resubmit"), Due(), last).attempt
    assert kind_of(resubmitted) is FailureKind.AMBIGUOUS_SUBMISSION
    assert kind_of(step(lost, Due(), deadline).attempt) is FailureKind.AMBIGUOUS_SUBMISSION


def test_an_operator_may_resolve_an_attempt_before_its_end() -> None:
    assert step(AMBIGUOUS, Resolved(None, NOW), NOW).attempt.state.name == "failed"
    assert step(RUNNING, Resolved(None, NOW), NOW).attempt == RUNNING, "operators resolve lost submits only"
    asked = step(step(AMBIGUOUS, Resolved(REF, NOW), NOW).attempt, Due(), NOW - timedelta(minutes=25))
    assert type(asked.action).__name__ == "Check"
    known = step(asked.attempt, checked(Running()), NOW).attempt
    assert (known.state.name, known.ref, known.claim) == ("running", REF, None)


def test_a_run_named_by_an_operator_just_before_the_deadline_is_still_checked() -> None:
    ended = step(step(AMBIGUOUS, Resolved(REF, NOW), NOW).attempt, Due(), NOW).attempt
    assert (ended.state.name, kind_of(ended), ended.claim) == ("failed", LOST, REF)
    assert ended.next_action_at is not None
    assert type(step(ended, Due(), ended.next_action_at).action).__name__ == "Check"


def test_a_resolution_of_one_submit_does_not_apply_to_the_next() -> None:
    claimed = step(AMBIGUOUS, Resolved(REF, NOW), NOW).attempt
    sent_again = changed(claimed, state="submitting", submissions=2)
    assert step(sent_again, SubmitAnswered(2, Unclear("reset")), NOW).attempt.claim is None


def test_a_run_unknown_to_the_provider_has_no_cost_and_the_operator_may_name_another() -> None:
    for attempt in (AMBIGUOUS, HELD):
        claimed = step(attempt, Resolved(OTHER, NOW), NOW).attempt
        refused = step(claimed, checked(Missing("404"), ref=OTHER), NOW)
        (event,) = refused.events
        assert "run-2, which an operator named" in getattr(event, "message", "")
        assert getattr(event, "cost_usd", None) is None
        assert (refused.attempt.state.name, refused.attempt.ref, refused.attempt.claim) == (
            attempt.state.name,
            None,
            None,
        )
        assert step(refused.attempt, Resolved(REF, NOW), NOW).attempt.claim == REF


def test_a_resolution_older_than_the_loss_is_ignored() -> None:
    lost_at = NOW - timedelta(minutes=28)
    for resolved_at in (lost_at - timedelta(seconds=1), lost_at):
        for attempt in (AMBIGUOUS, HELD):
            assert step(attempt, Resolved(None, resolved_at), NOW).attempt == attempt
    assert step(AMBIGUOUS, Resolved(None, lost_at + timedelta(milliseconds=1)), NOW).attempt.state.name == "failed"


def test_of_late_outputs_the_stored_ones_are_kept_at_the_end() -> None:
    some = collect_failed(
        Failure(FailureKind.OUTPUT_LOST, "404"), final=False, stored={2: ARTIFACT}, missing={1: "output 1: 404"}
    )
    two = changed(COLLECTING, outputs=COLLECTING.files.outputs[:1] * 2)
    until = NOW + timedelta(seconds=FOLLOW_UP_S)
    assert isinstance(two.state, Closed)
    assert two.state.follow_up == Fetching(until)
    again = step(two, some, NOW)
    assert (again.events, again.attempt.state.name, follow_up_of(again.attempt)) == ((), "failed", "collect")
    (event,) = step(again.attempt, STORE_AWAY, until).events
    assert isinstance(event, AttemptSucceeded)
    assert (event.late, event.artifacts) == (True, (ARTIFACT,))
    assert event.missing == "1 of 2 outputs could not be had: output 1: disk full"


def test_only_reports_of_the_provider_make_a_run_unknown() -> None:
    attempt = WATCHED
    for input_ in (
        *[checked(NoAnswer("502")), checked(Missing("404"))] * (TIMES_UNKNOWN - 1),
        checked(NoAnswer("502")),
    ):
        attempt = step(attempt, input_, NOW).attempt
        assert kind_of(attempt) is LOST
    assert kind_of(step(step(attempt, checked(Running()), NOW).attempt, checked(Missing("404")), NOW).attempt) is LOST
    assert kind_of(step(attempt, checked(Missing("404")), NOW).attempt) is FailureKind.OUTPUT_LOST
