"""After the end of an attempt: results that come late, and submits whose outcome is learned only later.

Its job has ended or gone elsewhere, and nothing here changes that. But a run that was given up without the provider's
last word may still cost and deliver: it is looked after for a while, is listened for always, and an operator may say
what became of it. What comes of it is kept on the attempt, with its cost. A run that nobody waits for any more is
stopped, unless an operator named it. All of it is pure.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from adapter_kit.attempt.actions import Cancel, Check, Collect, Search
from adapter_kit.attempt.collecting import named_anew, noted, partly
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
from adapter_kit.attempt.model import (
    FOLLOW_UP_S,
    MISSING_TRIES,
    Attempt,
    FollowUp,
    Step,
    cancelled,
    failed,
    reschedule,
    succeeded,
    with_lease,
)
from adapter_kit.attempt.resolution import NO_RUN, SAID_SO, is_outdated, listing_answered, proven_absent_at
from adapter_kit.port.outcomes import (
    Accepted,
    Broken,
    CheckOutcome,
    Failure,
    FindOutcome,
    Found,
    Missing,
    NoAnswer,
    NotFound,
    OutputPending,
    Produced,
    ProviderRef,
    Running,
    Stopped,
    Unreadable,
    Waiting,
)
from contracts.failures import FAILURES, FailureKind

LOOK_AT_MOST_EVERY_S: Final = 5.0
LOOK_AT_LEAST_EVERY_S: Final = 300.0
LISTEN_EVERY_S: Final = 30.0
"""How often a listing is asked for what nobody waits for: often enough not to count as deaf to it."""


def step_late(attempt: Attempt, input_: Input, now: datetime) -> Step:
    """The ended attempt after the input. Pure; raises nothing."""
    if not attempt.unsettled:
        return Step(attempt)
    match input_:
        case Due():
            return _due(attempt, now)
        case CalledBack(ref):
            return _shown(attempt, ref, now)
        case SubmitAnswered(outcome=Accepted(ref)):
            return _shown(attempt, ref, now)
        case Resolved(ref) if not is_outdated(input_, attempt):
            return _ruled_out(attempt, now) if ref is None else _claimed(attempt, ref, now)
        case CollectWanted():
            return _collect_wanted(attempt, now)
        case Searched(outcome) if attempt.follow_up == "search":
            return _searched(attempt, outcome, now)
        case _ if attempt.follow_up == "watch":
            return _heard_of_run(attempt, input_, now)
        case _ if attempt.follow_up == "collect":
            return _heard_of_outputs(attempt, input_, now)
        case _:
            return Step(attempt)


def _due(attempt: Attempt, now: datetime) -> Step:
    if attempt.follow_up is None or attempt.follow_up_until is None or now >= attempt.follow_up_until:
        return Step(replace(attempt, follow_up=None, next_action_at=None))
    at_work = with_lease(attempt, now)
    match attempt.follow_up:
        case "search":
            return Step(at_work, action=Search())
        case "collect":
            return Step(at_work, action=Check() if attempt.tries else Collect())
        case "watch":
            return Step(at_work, action=Check() if attempt.cancel_answered else Cancel())
        case _:
            assert_never(attempt.follow_up)


def _searched(attempt: Attempt, outcome: FindOutcome, now: datetime) -> Step:
    match outcome:
        case Found(ref):
            return _shown(attempt, ref, now)
        case NotFound(conclusive):
            listened = listing_answered(attempt, now)
            shown = proven_absent_at(listened, conclusive=conclusive)
            if shown is not None and now >= shown:
                return failed(listened, Failure(FailureKind.NEVER_ACCEPTED, NO_RUN), now)
            again = now + timedelta(seconds=LISTEN_EVERY_S)
            return Step(replace(listened, next_action_at=min(again, shown or again)))
        case NoAnswer():
            return reschedule(attempt, now, most_s=LISTEN_EVERY_S)
        case _:
            assert_never(outcome)


def _shown(attempt: Attempt, ref: ProviderRef | None, now: datetime) -> Step:
    """The run has become known; one that becomes known only now is stopped first."""
    known = attempt.ref or ref
    foreign = ref is not None and known is not None and known.request_id != ref.request_id
    if known is None or foreign or attempt.outputs:
        return Step(attempt)
    found = attempt
    if attempt.ref is None:
        reason = attempt.cancel_reason or "deadline"
        found = replace(attempt, ref=known, claim=None, accepted_at=now, cancel_reason=reason, cancel_answered=False)
    until = now + timedelta(seconds=FOLLOW_UP_S)
    return Step(replace(found, follow_up="watch", follow_up_until=until, next_action_at=now, tries=0))


def _collect_wanted(attempt: Attempt, now: datetime) -> Step:
    """An operator has mended what kept the output away: the run is looked at, and its output fetched."""
    if attempt.ref is None or attempt.failure is None or not FAILURES[attempt.failure.kind].collectable:
        return Step(attempt)
    until = now + timedelta(seconds=FOLLOW_UP_S)
    looked_at = replace(attempt, cancel_answered=True, follow_up="watch", follow_up_until=until)
    return Step(replace(looked_at, next_action_at=now, tries=0))


def _claimed(attempt: Attempt, ref: ProviderRef, now: datetime) -> Step:
    """An operator names its run: it is looked at, and believed once the provider knows it."""
    if attempt.ref is not None:
        return Step(attempt)
    until = now + timedelta(seconds=FOLLOW_UP_S)
    watched = replace(attempt, claim=ref, cancel_answered=True, follow_up="watch", follow_up_until=until)
    return Step(replace(watched, next_action_at=now, tries=0))


def _claim_checked(attempt: Attempt, claim: ProviderRef, outcome: CheckOutcome, now: datetime) -> Step:
    match outcome:
        case Missing():
            wrong = f"the provider does not know the run {claim.request_id}, which an operator named"
            kind = attempt.failure.kind if attempt.failure else FailureKind.AMBIGUOUS_SUBMISSION
            follow_up: FollowUp | None = "search" if kind is FailureKind.AMBIGUOUS_SUBMISSION else None
            return failed(replace(attempt, claim=None), Failure(kind, wrong), now, follow_up=follow_up)
        case NoAnswer(finished=False):
            return reschedule(attempt, now)
        case _:
            return _checked(replace(attempt, ref=claim, claim=None, accepted_at=now), outcome, now)


def _ruled_out(attempt: Attempt, now: datetime) -> Step:
    failure = attempt.failure
    if attempt.ref is not None or failure is None or failure.kind is not FailureKind.AMBIGUOUS_SUBMISSION:
        return Step(attempt)
    return failed(attempt, Failure(FailureKind.NEVER_ACCEPTED, SAID_SO), now)


def _heard_of_run(attempt: Attempt, input_: Input, now: datetime) -> Step:
    match input_:
        case CancelAnswered(Stopped(may_have_cost)):
            return cancelled(attempt, now, may_have_cost=may_have_cost)
        case CancelAnswered(NoAnswer()):
            return reschedule(attempt, now)
        case CancelAnswered():
            return Step(with_lease(replace(attempt, cancel_answered=True, tries=0), now), action=Check())
        case Checked(outcome) if attempt.ref is None and attempt.claim is not None:
            return _claim_checked(attempt, attempt.claim, outcome, now)
        case Checked(outcome):
            return _checked(attempt, outcome, now)
        case _:
            return Step(attempt)


def _heard_of_outputs(attempt: Attempt, input_: Input, now: datetime) -> Step:
    match input_:
        case Collected(artifacts):
            return succeeded(attempt, artifacts, now)
        case CollectFailed(failure, final=True):
            return failed(attempt, failure, now, cost_usd=attempt.price_usd)
        case CollectFailed():
            again = reschedule(noted(attempt, input_), now)
            due, until = again.attempt.next_action_at, attempt.follow_up_until
            if again.attempt.stored and (due is None or until is None or due >= until):
                return partly(again.attempt, input_, now)
            return again
        case Checked(outcome) if attempt.tries:
            return Step(with_lease(named_anew(attempt, outcome), now), action=Collect())
        case _:
            return Step(attempt)


def _checked(attempt: Attempt, outcome: CheckOutcome, now: datetime) -> Step:
    match outcome:
        case Missing() if attempt.outputs:
            # The provider no longer keeps the result, but perhaps still the files that it named.
            return Step(with_lease(replace(attempt, follow_up="collect", tries=0), now), action=Collect())
        case Missing(reason):
            return _missing(attempt, reason, now)
        case Waiting() | Running() | OutputPending():
            return _look_again(attempt, now)
        case Unreadable(reason, raw):
            unread = Failure(FailureKind.OUTPUT_UNREADABLE, f"{reason}: {raw}")
            return failed(attempt, unread, now, cost_usd=attempt.price_usd)
        case Produced(outputs):
            collecting = replace(attempt, outputs=outputs, follow_up="collect", tries=0)
            return Step(with_lease(collecting, now), action=Collect())
        case Broken(failure, may_have_cost):
            return failed(attempt, failure, now, cost_usd=attempt.price_usd if may_have_cost else 0.0)
        case Stopped(may_have_cost):
            return cancelled(attempt, now, may_have_cost=may_have_cost)
        case NoAnswer():
            return reschedule(attempt, now)
        case _:
            assert_never(outcome)


def _missing(attempt: Attempt, reason: str, now: datetime) -> Step:
    """The provider does not know the run; of one whose submit was lost, it is at least known that there was a run."""
    if attempt.failure is None or not FAILURES[attempt.failure.kind].run_may_exist:
        return _look_again(attempt, now)
    if attempt.tries + 1 < MISSING_TRIES:
        return reschedule(attempt, now)
    gone = Failure(FailureKind.OUTPUT_LOST, reason)
    return failed(attempt, gone, now, cost_usd=attempt.price_usd, follow_up="watch")


def _look_again(attempt: Attempt, now: datetime) -> Step:
    age_s = (now - (attempt.ended_at or now)).total_seconds()
    wait_s = min(LOOK_AT_LEAST_EVERY_S, max(LOOK_AT_MOST_EVERY_S, age_s / 10))
    return Step(replace(attempt, tries=0, next_action_at=now + timedelta(seconds=wait_s)))
