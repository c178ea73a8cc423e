"""Ambiguous: the response to the POST was lost; whether there is a run is determined. Pure.

If the listing is complete, absence is proof as soon as the listing has had time to catch up with the POST. Otherwise it
is proof at the end of the grace period, by which every accepted run is listed. Listing downtime extends the period.

A twin is another attempt with the same endpoint and input. Their runs are interchangeable, so that a search may give
the run of one to the other. Absence is then no proof before the run of the other one is listed, too.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, assert_never

from adapter_kit.attempt.actions import Check, Search
from adapter_kit.attempt.inputs import Resolved
from adapter_kit.attempt.model import (
    HELD_UP_S,
    Attempt,
    Step,
    failed,
    reschedule,
    with_event,
    with_lease,
)
from adapter_kit.attempt.running import accepted
from adapter_kit.attempt.states import Ambiguous, LostSubmit, Searching, Submitting, Watching
from adapter_kit.port.outcomes import (
    CheckOutcome,
    Failure,
    FindOutcome,
    Found,
    Missing,
    NoAnswer,
    NotFound,
    ProviderRef,
)
from contracts.failures import FailureKind
from contracts.messages.attempts import (
    AttemptAmbiguous,
)

LAST_LOOK_S: Final = 20.0
"""Time after the resolution deadline, in seconds, for the search that decides."""
CONCLUSIVE_AFTER_S: Final = 10.0
"""How long a complete listing may lag behind an accepted POST, in seconds."""
DOWN_AFTER_S: Final = 45.0
"""The listing is read about every 15 s; a gap between two answers longer than this, in seconds, counts as downtime."""
NO_RUN: Final = "the provider's listing does not show the run, though it would have by now"
SAID_SO: Final = "an operator looked at the provider, and says that it never accepted the run"


def answer_lost(
    attempt: Attempt,
    submitting: Submitting,
    reason: str,
    now: datetime,
    *,
    answered: bool = False,
) -> Step:
    """Enter `ambiguous`: it is unknown whether the provider accepted the run.

    `answered`: the provider did answer the POST, but not in a way that settles it.
    """
    resolve_by = now + timedelta(seconds=attempt.grace_s)
    lost = LostSubmit(
        submitting.submit_started_at,
        resolve_by,
        listing_answered_at=now,
        submit_answered_at=now if answered else None,
    )
    ambiguous = replace(
        attempt,
        state=Ambiguous(lost, submitting.cancel_reason),
        tries=0,
        next_action_at=min(now + timedelta(seconds=1), resolve_by),
    )
    return with_event(ambiguous, AttemptAmbiguous, now, message=reason, resolve_by=resolve_by)


def resolve(attempt: Attempt, state: Ambiguous, now: datetime) -> Step:
    """Search for the run, or check the one an operator named; fail as `ambiguous_submission` after the wait."""
    if now >= _held_until(attempt, state.lost):
        held = Failure(FailureKind.AMBIGUOUS_SUBMISSION, _UNRESOLVED)
        # A run that an operator named shortly before the end is still checked.
        follow_up = Searching if state.claim is None else partial(Watching, claim=state.claim)
        return failed(attempt, held, now, follow_up=follow_up)
    return Step(with_lease(attempt, now), action=Search(now) if state.claim is None else Check(state.claim, now))


def _held_until(attempt: Attempt, lost: LostSubmit) -> datetime:
    if attempt.ambiguity_policy == "hold":
        return attempt.deadline_at
    return min(attempt.deadline_at, lost.resolve_by + timedelta(seconds=LAST_LOOK_S))


_UNRESOLVED: Final = (
    "the response to the submit was lost, and the provider's listing does not yet show whether it was accepted; "
    "Segue continues to search; an operator who finds the run at the provider can name it with `segue attempts resolve`"
)


def searched(attempt: Attempt, state: Ambiguous, outcome: FindOutcome, asked_at: datetime, now: datetime) -> Step:
    """The result of a search for the lost submit in the provider's listing, which was begun at `asked_at`."""
    held_until = _held_until(attempt, state.lost)
    match outcome:
        case Found(ref, conclusive):
            own_listed_by = proven_absent_at(attempt, listing_answered(state.lost, asked_at), conclusive=conclusive)
            return accepted(attempt, ref, now, own_listed_by=own_listed_by)
        case NotFound():
            lost = listing_answered(state.lost, asked_at)
            answered = replace(attempt, state=replace(state, lost=lost))
            absent_at = absence_is_proof_at(attempt, lost, outcome)
            if asked_at >= absent_at:
                return failed(answered, Failure(FailureKind.NEVER_ACCEPTED, NO_RUN), now)
            # The next search is begun no later than at the time from which absence is proof.
            return _search_again(answered, min(absent_at, held_until), now)
        case NoAnswer():
            # Without the listing nothing is proven: the search goes on until the end of the wait.
            return _search_again(attempt, held_until, now)
        case _:
            assert_never(outcome)


def _search_again(attempt: Attempt, latest: datetime, now: datetime) -> Step:
    again = reschedule(attempt, now, most_s=15.0).attempt
    due = latest if again.next_action_at is None else min(latest, again.next_action_at)
    return Step(replace(again, next_action_at=max(due, now)))


def resolved(attempt: Attempt, state: Ambiguous, verdict: Resolved, now: datetime) -> Step:
    """An operator names the run, or states that there is none."""
    if is_outdated(verdict, attempt, state.lost):
        return Step(attempt)
    if verdict.ref is None:
        return failed(attempt, Failure(FailureKind.NEVER_ACCEPTED, SAID_SO), now)
    return Step(replace(attempt, state=replace(state, claim=verdict.ref), next_action_at=now))


def claim_checked(attempt: Attempt, state: Ambiguous, claim: ProviderRef, outcome: CheckOutcome, now: datetime) -> Step:
    """Enter `running` with the run an operator named if the provider knows it; a mistyped id is dropped."""
    match outcome:
        case Missing():
            wrong = f"the provider does not know the run {claim.request_id}, which an operator named"
            due = replace(attempt, state=replace(state, claim=None), next_action_at=now + timedelta(seconds=1))
            return with_event(due, AttemptAmbiguous, now, message=wrong, resolve_by=state.lost.resolve_by)
        case NoAnswer(finished=False):
            return reschedule(attempt, now, most_s=15.0)
        case _:
            # An operator cannot tell the runs of twins apart either.
            own_listed_by = proven_absent_at(attempt, state.lost, conclusive=False)
            entered = accepted(attempt, claim, now, own_listed_by=own_listed_by)
            return replace(entered, attempt=replace(entered.attempt, next_action_at=now))


def listing_answered(lost: LostSubmit, asked_at: datetime) -> LostSubmit:
    """The lost submit after the listing has answered a search; a long gap before that is added to the downtime."""
    silent_s = (asked_at - lost.listing_answered_at).total_seconds()
    downtime_s = lost.listing_downtime_s + (silent_s if silent_s > DOWN_AFTER_S else 0.0)
    answered_at = max(asked_at, lost.listing_answered_at)
    return replace(lost, listing_answered_at=answered_at, listing_downtime_s=downtime_s)


def absence_is_proof_at(attempt: Attempt, lost: LostSubmit, absence: NotFound) -> datetime:
    """The time from which absence proves that no run is left for the attempt.

    A twin may have taken the attempt's run. The attempt then takes the twin's, which has to be in the listing for that.
    """
    absent_at = proven_absent_at(attempt, lost, conclusive=absence.conclusive)
    if absence.twin_listed_by is None:
        return absent_at
    # Nobody counts the downtime for the twin once it has a run. This attempt's may overlap with it: later is safe.
    downtime_s = 0.0 if absence.conclusive else lost.listing_downtime_s
    return max(absent_at, absence.twin_listed_by + timedelta(seconds=downtime_s))


def proven_absent_at(attempt: Attempt, lost: LostSubmit, *, conclusive: bool) -> datetime:
    """The time from which the listing has every accepted run: a search begun then proves that there is none."""
    if conclusive:
        # A provider that answered has processed the POST. Otherwise the POST, which is begun within half of its lease,
        # may last until its timeout, and its process may have been held up until the loss was recorded.
        timeout_at = lost.submit_started_at + timedelta(seconds=HELD_UP_S + attempt.submit_timeout_s)
        return (lost.submit_answered_at or max(timeout_at, _lost_at(attempt, lost))) + timedelta(
            seconds=CONCLUSIVE_AFTER_S
        )
    return lost.resolve_by + timedelta(seconds=lost.listing_downtime_s)


def is_outdated(verdict: Resolved, attempt: Attempt, lost: LostSubmit | None) -> bool:
    """Whether the verdict is older than the loss of the submit, and so cannot be about it; true if none was lost."""
    return lost is None or verdict.said_at <= _lost_at(attempt, lost)


def _lost_at(attempt: Attempt, lost: LostSubmit) -> datetime:
    return lost.resolve_by - timedelta(seconds=attempt.grace_s)
