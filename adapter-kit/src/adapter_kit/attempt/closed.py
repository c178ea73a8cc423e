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
    Step,
    cancelled,
    failed,
    reschedule,
    succeeded,
    with_lease,
)
from adapter_kit.attempt.resolution import NO_RUN, SAID_SO, is_outdated, listing_answered, proven_absent_at
from adapter_kit.attempt.states import Closed, Fetching, Files, LostSubmit, Run, Searching, Watching
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


def after_the_end(attempt: Attempt, closed: Closed, input_: Input, now: datetime) -> Step:
    """The ended attempt after the input. Pure; raises nothing."""
    if not closed.unsettled:
        return Step(attempt)
    match closed.follow_up, input_:
        case _, Due():
            return _due(attempt, closed, now)
        case _, CalledBack(ref):
            return _shown(attempt, closed, ref, now)
        case _, SubmitAnswered(outcome=Accepted(ref)):
            return _shown(attempt, closed, ref, now)
        case _, Resolved(ref) if not is_outdated(input_, attempt, closed.lost):
            return _ruled_out(attempt, closed, now) if ref is None else _claimed(attempt, closed, ref, now)
        case _, CollectWanted():
            return _collect_wanted(attempt, closed, now)
        case Searching(), Searched(outcome) if closed.lost is not None:
            return _searched(attempt, closed, closed.lost, outcome, now)
        case Watching() as watching, _:
            return _heard_of_run(attempt, closed, watching, input_, now)
        case Fetching(until), _:
            return _heard_of_outputs(attempt, closed, until, input_, now)
        case _:
            return Step(attempt)


def _due(attempt: Attempt, closed: Closed, now: datetime) -> Step:
    if closed.follow_up is None or now >= closed.follow_up.until:
        return Step(replace(attempt, state=replace(closed, follow_up=None), next_action_at=None))
    at_work = with_lease(attempt, now)
    match closed.follow_up:
        case Searching():
            return Step(at_work, action=Search())
        case Fetching():
            return Step(at_work, action=Check() if attempt.tries else Collect())
        case Watching(claim=None) if closed.run is not None and not closed.run.cancel_answered:
            return Step(at_work, action=Cancel())
        case Watching():
            return Step(at_work, action=Check())
        case _:
            assert_never(closed.follow_up)


def _watched(attempt: Attempt, closed: Closed, now: datetime, *, claim: ProviderRef | None = None) -> Step:
    until = now + timedelta(seconds=FOLLOW_UP_S)
    return Step(replace(attempt, state=replace(closed, follow_up=Watching(until, claim)), next_action_at=now, tries=0))


def _searched(attempt: Attempt, closed: Closed, lost: LostSubmit, outcome: FindOutcome, now: datetime) -> Step:
    match outcome:
        case Found(ref):
            return _shown(attempt, closed, ref, now)
        case NotFound(conclusive):
            lost = listing_answered(lost, now)
            listened = replace(attempt, state=replace(closed, lost=lost))
            shown = proven_absent_at(attempt, lost, conclusive=conclusive)
            if now >= shown:
                return failed(listened, Failure(FailureKind.NEVER_ACCEPTED, NO_RUN), now)
            again = now + timedelta(seconds=LISTEN_EVERY_S)
            return Step(replace(listened, next_action_at=min(again, shown)))
        case NoAnswer():
            return reschedule(attempt, now, most_s=LISTEN_EVERY_S)
        case _:
            assert_never(outcome)


def _shown(attempt: Attempt, closed: Closed, ref: ProviderRef | None, now: datetime) -> Step:
    """The run has become known; one that becomes known only now is stopped first."""
    if closed.files.outputs:
        return Step(attempt)
    if closed.run is not None:
        foreign = ref is not None and closed.run.ref.request_id != ref.request_id
        return Step(attempt) if foreign else _watched(attempt, closed, now)
    if ref is None:
        return Step(attempt)
    found = replace(closed, run=Run(ref, accepted_at=now), cancel_reason=closed.cancel_reason or "deadline")
    return _watched(attempt, found, now)


def _collect_wanted(attempt: Attempt, closed: Closed, now: datetime) -> Step:
    """An operator has mended what kept the output away: the run is looked at, and its output fetched."""
    if closed.run is None or closed.failure is None or not FAILURES[closed.failure.kind].collectable:
        return Step(attempt)
    return _watched(attempt, replace(closed, run=replace(closed.run, cancel_answered=True)), now)


def _claimed(attempt: Attempt, closed: Closed, ref: ProviderRef, now: datetime) -> Step:
    """An operator names its run: it is looked at, and believed once the provider knows it."""
    return Step(attempt) if closed.run is not None else _watched(attempt, closed, now, claim=ref)


def _claim_checked(
    attempt: Attempt, closed: Closed, until: datetime, claim: ProviderRef, outcome: CheckOutcome, now: datetime
) -> Step:
    match outcome:
        case Missing():
            wrong = f"the provider does not know the run {claim.request_id}, which an operator named"
            kind = closed.failure.kind if closed.failure else FailureKind.AMBIGUOUS_SUBMISSION
            follow_up = Searching if kind is FailureKind.AMBIGUOUS_SUBMISSION else None
            return failed(attempt, Failure(kind, wrong), now, follow_up=follow_up)
        case NoAnswer(finished=False):
            return reschedule(attempt, now)
        case _:
            run = Run(claim, accepted_at=now, cancel_answered=True)
            known = replace(closed, run=run, follow_up=Watching(until))
            return _checked(replace(attempt, state=known), known, until, outcome, now)


def _ruled_out(attempt: Attempt, closed: Closed, now: datetime) -> Step:
    failure = closed.failure
    if closed.run is not None or failure is None or failure.kind is not FailureKind.AMBIGUOUS_SUBMISSION:
        return Step(attempt)
    return failed(attempt, Failure(FailureKind.NEVER_ACCEPTED, SAID_SO), now)


def _heard_of_run(attempt: Attempt, closed: Closed, watching: Watching, input_: Input, now: datetime) -> Step:
    match input_:
        case CancelAnswered(Stopped(may_have_cost)):
            return cancelled(attempt, now, may_have_cost=may_have_cost)
        case CancelAnswered(NoAnswer()):
            return reschedule(attempt, now)
        case CancelAnswered() if closed.run is not None:
            answered = replace(closed, run=replace(closed.run, cancel_answered=True))
            return Step(with_lease(replace(attempt, state=answered, tries=0), now), action=Check())
        case Checked(outcome) if watching.claim is not None:
            return _claim_checked(attempt, closed, watching.until, watching.claim, outcome, now)
        case Checked(outcome):
            return _checked(attempt, closed, watching.until, outcome, now)
        case _:
            return Step(attempt)


def _heard_of_outputs(attempt: Attempt, closed: Closed, until: datetime, input_: Input, now: datetime) -> Step:
    match input_:
        case Collected(artifacts):
            return succeeded(attempt, artifacts, now)
        case CollectFailed(failure, final=True):
            return failed(attempt, failure, now, cost_usd=attempt.price_usd)
        case CollectFailed():
            files = noted(closed.files, input_)
            again = reschedule(replace(attempt, state=replace(closed, files=files)), now)
            due = again.attempt.next_action_at
            if files.stored and (due is None or due >= until):
                return partly(again.attempt, input_, now)
            return again
        case Checked(outcome) if attempt.tries:
            anew = replace(closed, files=named_anew(closed.files, outcome))
            return Step(with_lease(replace(attempt, state=anew), now), action=Collect())
        case _:
            return Step(attempt)


def _fetch(attempt: Attempt, closed: Closed, until: datetime, files: Files, now: datetime) -> Step:
    fetching = replace(closed, files=files, follow_up=Fetching(until))
    return Step(with_lease(replace(attempt, state=fetching, tries=0), now), action=Collect())


def _checked(attempt: Attempt, closed: Closed, until: datetime, outcome: CheckOutcome, now: datetime) -> Step:
    match outcome:
        case Missing() if closed.files.outputs:
            # The provider no longer keeps the result, but perhaps still the files that it named.
            return _fetch(attempt, closed, until, closed.files, now)
        case Missing(reason):
            return _missing(attempt, closed, reason, now)
        case Waiting() | Running() | OutputPending():
            return _look_again(attempt, closed, now)
        case Unreadable(reason, raw):
            unread = Failure(FailureKind.OUTPUT_UNREADABLE, f"{reason}: {raw}")
            return failed(attempt, unread, now, cost_usd=attempt.price_usd)
        case Produced(outputs):
            return _fetch(attempt, closed, until, replace(closed.files, outputs=outputs), now)
        case Broken(failure, may_have_cost):
            return failed(attempt, failure, now, cost_usd=attempt.price_usd if may_have_cost else 0.0)
        case Stopped(may_have_cost):
            return cancelled(attempt, now, may_have_cost=may_have_cost)
        case NoAnswer():
            return reschedule(attempt, now)
        case _:
            assert_never(outcome)


def _missing(attempt: Attempt, closed: Closed, reason: str, now: datetime) -> Step:
    """The provider does not know the run; of one whose submit was lost, it is at least known that there was a run."""
    if closed.failure is None or not FAILURES[closed.failure.kind].run_may_exist:
        return _look_again(attempt, closed, now)
    if attempt.tries + 1 < MISSING_TRIES:
        return reschedule(attempt, now)
    gone = Failure(FailureKind.OUTPUT_LOST, reason)
    return failed(attempt, gone, now, cost_usd=attempt.price_usd, follow_up=Watching)


def _look_again(attempt: Attempt, closed: Closed, now: datetime) -> Step:
    age_s = (now - closed.ended_at).total_seconds()
    wait_s = min(LOOK_AT_LEAST_EVERY_S, max(LOOK_AT_MOST_EVERY_S, age_s / 10))
    return Step(replace(attempt, tries=0, next_action_at=now + timedelta(seconds=wait_s)))
