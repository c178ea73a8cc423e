"""Ambiguous: the response to the POST was lost, and the run is looked for. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from adapter_kit.attempt.actions import Check, Search
from adapter_kit.attempt.inputs import (
    Resolved,
)
from adapter_kit.attempt.model import (
    Attempt,
    Step,
    failed,
    reschedule,
    with_event,
    with_lease,
)
from adapter_kit.attempt.resolution import NO_RUN, SAID_SO, is_outdated, listing_answered, proven_absent_at
from adapter_kit.attempt.running import accepted
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
"""How long after the grace the listing may still be asked the one time that settles it."""


def answer_lost(attempt: Attempt, reason: str, now: datetime) -> Step:
    """Enter `ambiguous`: nobody knows whether the provider accepted the run."""
    resolve_by = now + timedelta(seconds=attempt.grace_s)
    ambiguous = replace(
        attempt,
        state="ambiguous",
        resolve_by=resolve_by,
        claim=None,
        listing_answered_at=now,
        listing_downtime_s=0.0,
        tries=0,
        next_action_at=min(now + timedelta(seconds=1), resolve_by),
    )
    return with_event(ambiguous, AttemptAmbiguous, now, message=reason, resolve_by=resolve_by)


def _ambiguous_still(attempt: Attempt, reason: str, now: datetime) -> Step:
    due = replace(attempt, next_action_at=now + timedelta(seconds=1))
    return with_event(due, AttemptAmbiguous, now, message=reason, resolve_by=attempt.resolve_by or now)


def resolve(attempt: Attempt, now: datetime) -> Step:
    """Look for the run once more; at the end of the time that its job gives it, end as `ambiguous_submission`."""
    if now >= _held_until(attempt, now):
        held = Failure(FailureKind.AMBIGUOUS_SUBMISSION, _LOOK_FOR_IT)
        if attempt.claim is None:
            return failed(attempt, held, now, follow_up="search")
        # An operator's word that came in the last moment is still looked into.
        return failed(replace(attempt, cancel_answered=True), held, now, follow_up="watch")
    return Step(with_lease(attempt, now), action=Search() if attempt.claim is None else Check())


def _held_until(attempt: Attempt, now: datetime) -> datetime:
    if attempt.ambiguity_policy == "hold":
        return attempt.deadline_at
    return min(attempt.deadline_at, (attempt.resolve_by or now) + timedelta(seconds=LAST_LOOK_S))


_LOOK_FOR_IT: Final = (
    "the answer to the submit was lost, and the provider's listing has not settled yet whether it was accepted; "
    "Segue goes on looking; whoever finds the run at the provider can tell with `segue attempts resolve`"
)


def searched(attempt: Attempt, outcome: FindOutcome, now: datetime) -> Step:
    """What the provider's listing says about the lost submit."""
    if attempt.state != "ambiguous":
        return Step(attempt)
    match outcome:
        case Found(ref):
            return accepted(attempt, ref, now)
        case NotFound(conclusive):
            answered = listing_answered(attempt, now)
            return _not_listed(answered, proven_absent_at(answered, conclusive=conclusive), now)
        case NoAnswer():
            # Without the listing silence says nothing: the window stays open up to the job's deadline.
            return _listen_again(attempt, _held_until(attempt, now), now)
        case _:
            assert_never(outcome)


def _not_listed(attempt: Attempt, absent_at: datetime | None, now: datetime) -> Step:
    if absent_at is not None and now >= absent_at:
        return failed(attempt, Failure(FailureKind.NEVER_ACCEPTED, NO_RUN), now)
    # The moment in which silence becomes an answer is a good one to listen.
    return _listen_again(attempt, min(absent_at or now, _held_until(attempt, now)), now)


def _listen_again(attempt: Attempt, at_last: datetime, now: datetime) -> Step:
    again = reschedule(attempt, now, most_s=15.0).attempt
    if again.next_action_at is None or not now < at_last < again.next_action_at:
        return Step(again)
    return Step(replace(again, next_action_at=at_last))


def resolved(attempt: Attempt, verdict: Resolved, now: datetime) -> Step:
    """An operator names the run, or says that there is none."""
    if attempt.state != "ambiguous" or is_outdated(verdict, attempt):
        return Step(attempt)
    ref = verdict.ref
    if ref is None:
        return failed(attempt, Failure(FailureKind.NEVER_ACCEPTED, SAID_SO), now)
    return Step(replace(attempt, claim=ref, next_action_at=now))


def claim_checked(attempt: Attempt, claim: ProviderRef, outcome: CheckOutcome, now: datetime) -> Step:
    """Accept an operator's resolution once the provider knows the run, so that a typing error costs nothing."""
    match outcome:
        case Missing():
            wrong = f"the provider does not know the run {claim.request_id}, which an operator named"
            return _ambiguous_still(replace(attempt, claim=None), wrong, now)
        case NoAnswer(finished=False):
            return reschedule(attempt, now, most_s=15.0)
        case _:
            entered = accepted(replace(attempt, claim=None), claim, now)
            return replace(entered, attempt=replace(entered.attempt, next_action_at=now))
