"""Closed: the follow-up of an attempt that ended before the provider confirmed its outcome. Pure.

The job has ended, or continues at another provider; nothing here changes that. The run may still be billed, and may
still deliver. Its outcome is polled for a limited time; callbacks and an operator's resolution are accepted at any
time. The outcome is recorded on the attempt, with its cost. A run for which no job waits is cancelled, unless an
operator named it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from adapter_kit.attempt.actions import Cancel, Check, Collect, Search
from adapter_kit.attempt.ambiguous import (
    NO_RUN,
    SAID_SO,
    absence_is_proof_at,
    is_outdated,
    listing_answered,
    proven_absent_at,
)
from adapter_kit.attempt.collecting import partly, with_new_outputs, with_progress
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
    TIMES_UNKNOWN,
    Attempt,
    Step,
    cancelled,
    failed,
    reschedule,
    succeeded,
    with_lease,
)
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

CHECK_MIN_S: Final = 5.0
CHECK_MAX_S: Final = 300.0
"""Bounds of the interval between two checks of a run, in seconds."""
SEARCH_EVERY_S: Final = 30.0
"""Interval between two searches of the listing, in seconds; short enough not to count as listing downtime."""


def after_the_end(attempt: Attempt, closed: Closed, input_: Input, now: datetime) -> Step:
    """The ended attempt after the input. Inputs change nothing once the outcome is confirmed. Raises nothing."""
    if not closed.unsettled:
        return Step(attempt)
    match closed.follow_up, input_:
        case _, Due():
            return _due(attempt, closed, now)
        case _, CalledBack(ref):
            return _run_found(attempt, closed, ref, now)
        case _, SubmitAnswered(outcome=Accepted(ref)) if closed.run is None:
            return _run_found(attempt, closed, ref, now)
        case _, Resolved(ref) if not is_outdated(input_, attempt, closed.lost):
            return _no_run(attempt, closed, now) if ref is None else _claimed(attempt, closed, ref, now)
        case _, CollectWanted():
            return _collect_wanted(attempt, closed, now)
        case Searching(), Searched(outcome, asked_at) if closed.lost is not None:
            return _searched(attempt, closed, closed.lost, outcome, asked_at, now)
        case Watching() as watching, _:
            return _watching(attempt, closed, watching, input_, now)
        case Fetching(until), _:
            return _fetching(attempt, closed, until, input_, now)
        case _:
            return Step(attempt)


def _due(attempt: Attempt, closed: Closed, now: datetime) -> Step:
    if closed.follow_up is None or now >= closed.follow_up.until:
        return _over(attempt, closed)
    leased = with_lease(attempt, now)
    match closed.follow_up, closed.run:
        case Searching(), _:
            return Step(leased, action=Search(now))
        case Watching(claim=ProviderRef() as claim), _:
            return Step(leased, action=Check(claim, now))
        case Watching(), Run(ref, cancel_answered=False):
            return Step(leased, action=Cancel(ref, now))
        case Fetching(), _ if not attempt.tries:
            return Step(leased, action=Collect(now))
        case _, Run(ref):
            return Step(leased, action=Check(ref, now))
        case _:
            return _over(attempt, closed)


def _over(attempt: Attempt, closed: Closed) -> Step:
    return Step(replace(attempt, state=replace(closed, follow_up=None), next_action_at=None))


def _watch(attempt: Attempt, closed: Closed, now: datetime, *, claim: ProviderRef | None = None) -> Step:
    until = now + timedelta(seconds=FOLLOW_UP_S)
    return Step(replace(attempt, state=replace(closed, follow_up=Watching(until, claim)), next_action_at=now, tries=0))


def _searched(
    attempt: Attempt, closed: Closed, lost: LostSubmit, outcome: FindOutcome, asked_at: datetime, now: datetime
) -> Step:
    match outcome:
        case Found(ref, conclusive):
            own_listed_by = proven_absent_at(attempt, listing_answered(lost, asked_at), conclusive=conclusive)
            return _run_found(attempt, closed, ref, now, own_listed_by=own_listed_by)
        case NotFound():
            lost = listing_answered(lost, asked_at)
            searched = replace(attempt, state=replace(closed, lost=lost))
            absent_at = absence_is_proof_at(attempt, lost, outcome)
            if asked_at >= absent_at:
                return failed(searched, Failure(FailureKind.NEVER_ACCEPTED, NO_RUN), now)
            again = now + timedelta(seconds=SEARCH_EVERY_S)
            return Step(replace(searched, next_action_at=max(now, min(again, absent_at))))
        case NoAnswer():
            return reschedule(attempt, now, most_s=SEARCH_EVERY_S)
        case _:
            assert_never(outcome)


def _run_found(
    attempt: Attempt, closed: Closed, ref: ProviderRef | None, now: datetime, *, own_listed_by: datetime | None = None
) -> Step:
    """A callback, a listing or a late response shows a run: watch it, and cancel it first if it was unknown."""
    if closed.files.outputs:
        return Step(attempt)
    if closed.run is not None:
        foreign = ref is not None and closed.run.ref.request_id != ref.request_id
        return Step(attempt) if foreign else _watch(attempt, closed, now)
    if ref is None:
        return Step(attempt)
    run = Run(ref, accepted_at=now, own_listed_by=own_listed_by)
    found = replace(closed, run=run, cancel_reason=closed.cancel_reason or "deadline")
    return _watch(attempt, found, now)


def _collect_wanted(attempt: Attempt, closed: Closed, now: datetime) -> Step:
    """An operator requests the output: check the run, without cancelling it, and fetch its output."""
    if closed.run is None or closed.failure is None or not FAILURES[closed.failure.kind].collectable:
        return Step(attempt)
    return _watch(attempt, replace(closed, run=replace(closed.run, cancel_answered=True)), now)


def _claimed(attempt: Attempt, closed: Closed, ref: ProviderRef, now: datetime) -> Step:
    """An operator names the run: check it, and record it once the provider confirms that it exists."""
    return Step(attempt) if closed.run is not None else _watch(attempt, closed, now, claim=ref)


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
            lost = closed.lost
            own_listed_by = proven_absent_at(attempt, lost, conclusive=False) if lost is not None else None
            run = Run(claim, accepted_at=now, cancel_answered=True, own_listed_by=own_listed_by)
            known = replace(closed, run=run, follow_up=Watching(until))
            return _checked(replace(attempt, state=known), known, until, outcome, now)


def _no_run(attempt: Attempt, closed: Closed, now: datetime) -> Step:
    failure = closed.failure
    if closed.run is not None or failure is None or failure.kind is not FailureKind.AMBIGUOUS_SUBMISSION:
        return Step(attempt)
    return failed(attempt, Failure(FailureKind.NEVER_ACCEPTED, SAID_SO), now)


def _watching(attempt: Attempt, closed: Closed, watching: Watching, input_: Input, now: datetime) -> Step:
    match input_:
        case CancelAnswered(Stopped(may_have_cost)):
            return cancelled(attempt, now, may_have_cost=may_have_cost)
        case CancelAnswered(NoAnswer()):
            return reschedule(attempt, now)
        case CancelAnswered() if closed.run is not None:
            run = replace(closed.run, cancel_answered=True)
            answered = replace(attempt, state=replace(closed, run=run), tries=0)
            return Step(with_lease(answered, now), action=Check(run.ref, now))
        case Checked(outcome) if watching.claim is not None:
            return _claim_checked(attempt, closed, watching.until, watching.claim, outcome, now)
        case Checked(outcome):
            return _checked(attempt, closed, watching.until, outcome, now)
        case _:
            return Step(attempt)


def _fetching(attempt: Attempt, closed: Closed, until: datetime, input_: Input, now: datetime) -> Step:
    match input_:
        case Collected(artifacts):
            return succeeded(attempt, artifacts, now)
        case CollectFailed(failure, final=True):
            return failed(attempt, failure, now, cost_usd=attempt.price_usd)
        case CollectFailed():
            files = with_progress(closed.files, input_)
            again = reschedule(replace(attempt, state=replace(closed, files=files)), now)
            due = again.attempt.next_action_at
            if files.stored and (due is None or due >= until):
                return partly(again.attempt, input_, now)
            return again
        case Checked(outcome) if attempt.tries:
            anew = replace(closed, files=with_new_outputs(closed.files, outcome))
            return Step(with_lease(replace(attempt, state=anew), now), action=Collect(now))
        case _:
            return Step(attempt)


def _fetch(attempt: Attempt, closed: Closed, until: datetime, files: Files, now: datetime) -> Step:
    fetching = replace(closed, files=files, follow_up=Fetching(until))
    return Step(with_lease(replace(attempt, state=fetching, tries=0), now), action=Collect(now))


def _checked(attempt: Attempt, closed: Closed, until: datetime, outcome: CheckOutcome, now: datetime) -> Step:
    match outcome:
        case Missing() if closed.files.outputs:
            # The provider may have deleted the result, but not yet the files that it named.
            return _fetch(attempt, closed, until, closed.files, now)
        case Missing(reason):
            return _missing(attempt, closed, reason, now)
        case Waiting() | Running() | OutputPending():
            return _check_later(_with_times_unknown(attempt, closed, 0), closed, now)
        case Unreadable(reason, raw):
            failure = Failure(FailureKind.OUTPUT_UNREADABLE, f"{reason}: {raw}")
            return failed(attempt, failure, now, cost_usd=attempt.price_usd)
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
    """The provider reports the run as unknown: after some retries, a lost submit is settled as `output_lost`."""
    if closed.failure is None or not FAILURES[closed.failure.kind].run_may_exist:
        return _check_later(attempt, closed, now)
    times = closed.run.times_unknown + 1 if closed.run else 1
    counted = _with_times_unknown(attempt, closed, times)
    if times < TIMES_UNKNOWN:
        return reschedule(counted, now)
    gone = Failure(FailureKind.OUTPUT_LOST, reason)
    return failed(counted, gone, now, cost_usd=attempt.price_usd, follow_up=Watching)


def _with_times_unknown(attempt: Attempt, closed: Closed, times: int) -> Attempt:
    run = replace(closed.run, times_unknown=times) if closed.run else None
    return replace(attempt, state=replace(closed, run=run))


def _check_later(attempt: Attempt, closed: Closed, now: datetime) -> Step:
    age_s = (now - closed.ended_at).total_seconds()
    wait_s = min(CHECK_MAX_S, max(CHECK_MIN_S, age_s / 10))
    return Step(replace(attempt, tries=0, next_action_at=now + timedelta(seconds=wait_s)))
