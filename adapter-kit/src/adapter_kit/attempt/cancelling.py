"""Cancelling: the run is to be stopped, and is polled until the provider reports how it ended. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from adapter_kit.attempt.actions import Cancel, Check
from adapter_kit.attempt.collecting import (
    lost,
    not_known,
)
from adapter_kit.attempt.model import (
    TIMES_UNKNOWN,
    Attempt,
    Step,
    cancelled,
    failed,
    reschedule,
    with_lease,
)
from adapter_kit.attempt.states import Cancelling, CancelReason, Collecting, Run, Running, Watching
from adapter_kit.port.outcomes import (
    AlreadyOver,
    CancelOutcome,
    CancelPending,
    Failure,
    Missing,
    NoAnswer,
    Stopped,
)
from contracts.failures import FailureKind

CANCEL_WATCH_S: Final = 60.0
"""How long after the cancel request the job waits for the end of the run, in seconds; at least until its deadline."""


def cancel(attempt: Attempt, running: Running, reason: CancelReason, now: datetime) -> Step:
    """Enter `cancelling`, with the cancel request as the action."""
    cancelling = Cancelling(running.run, reason, cancel_sent_at=now, fetch_by=running.fetch_by)
    return Step(with_lease(replace(attempt, state=cancelling, tries=0), now), action=Cancel(cancelling.run.ref, now))


def watch_cancel(attempt: Attempt, cancelling: Cancelling, now: datetime) -> Step:
    """Send the cancel request and check the run in turns, until the wait for the end of the run is over."""
    sent_at = now if cancelling.cancel_sent_at is None else cancelling.cancel_sent_at
    # Before the deadline only the provider ends the attempt: while its run may still deliver, no other may be paid.
    if now >= max(sent_at + timedelta(seconds=CANCEL_WATCH_S), attempt.deadline_at):
        return run_stopped(attempt, cancelling, may_have_cost=True, now=now, follow_up=Watching)
    if not cancelling.run.cancel_answered and attempt.tries % 2 == 0:
        # A process that died may have sent the request already; to send it twice is harmless.
        sent = replace(attempt, state=replace(cancelling, cancel_sent_at=sent_at))
        return Step(with_lease(sent, now), action=Cancel(cancelling.run.ref, now))
    return Step(with_lease(attempt, now), action=Check(cancelling.run.ref, now))


def cancel_answered(
    attempt: Attempt, cancelling: Cancelling, outcome: CancelOutcome, asked_at: datetime, now: datetime
) -> Step:
    """The provider's response to the cancel request of `asked_at`."""
    answered = replace(cancelling, run=replace(cancelling.run, cancel_answered=True, times_unknown=0))
    match outcome:
        case Stopped(may_have_cost):
            return run_stopped(attempt, cancelling, may_have_cost=may_have_cost, now=now)
        case CancelPending():
            return Step(replace(attempt, state=answered, tries=0, next_action_at=now + timedelta(seconds=1)))
        case AlreadyOver():
            return Step(
                with_lease(replace(attempt, state=answered, tries=0), now), action=Check(cancelling.run.ref, now)
            )
        case Missing(reason):
            return run_unknown(attempt, cancelling, reason, asked_at, now)
        case NoAnswer():
            return reschedule(attempt, now, most_s=30.0)
        case _:
            assert_never(outcome)


def run_unknown(
    attempt: Attempt, state: Running | Cancelling | Collecting, reason: str, asked_at: datetime, now: datetime
) -> Step:
    """The provider reports a run it accepted as unknown, which does not show how the run ended: poll it again."""
    state = replace(state, run=replace(state.run, times_unknown=state.run.times_unknown + 1))
    attempt, cancelling = replace(attempt, state=state), isinstance(state, Cancelling)
    # If no other provider will be paid, fewer reports suffice. An acknowledged cancel is no proof that the run stopped.
    harmless = cancelling and state.cancel_reason in ("client", "deadline")
    if harmless and state.run.times_unknown >= TIMES_UNKNOWN:
        return run_stopped(attempt, state, may_have_cost=True, now=now, follow_up=Watching)
    if (again := not_known(attempt, state, reason, asked_at, now)) is not None:
        return again
    if cancelling:
        return run_stopped(attempt, state, may_have_cost=True, now=now, follow_up=Watching)
    return lost(attempt, Failure(FailureKind.OUTPUT_LOST, reason), now)


def run_stopped(
    attempt: Attempt,
    state: Running | Cancelling | Collecting,
    *,
    may_have_cost: bool,
    now: datetime,
    follow_up: type[Watching] | None = None,
) -> Step:
    """The run was stopped: the attempt ends for the reason for which it was cancelled."""
    match state.cancel_reason:
        case "client" | "deadline":
            return cancelled(attempt, now, may_have_cost=may_have_cost, follow_up=follow_up)
        case "start_timeout":
            failure = Failure(FailureKind.START_TIMEOUT, f"not started within {attempt.start_within_s:g} s")
        case "run_timeout":
            failure = Failure(FailureKind.RUN_TIMEOUT, f"not finished within {attempt.run_within_s:g} s")
        case None if now >= _longest(attempt, state.run):
            failure = Failure(FailureKind.RUN_TIMEOUT, "the provider stopped the run at the end of its time limit")
        case None if state.run.started_at is None and not may_have_cost:
            failure = Failure(FailureKind.START_TIMEOUT, "the provider dropped the run before it started")
        case None:
            failure = Failure(FailureKind.CANCELLED_BY_PROVIDER, "the provider stopped the run")
        case _:
            assert_never(state.cancel_reason)
    cost_usd = attempt.price_usd if may_have_cost else 0.0
    return failed(attempt, failure, now, cost_usd=cost_usd, follow_up=follow_up)


def _longest(attempt: Attempt, run: Run) -> datetime:
    return run.accepted_at + timedelta(seconds=attempt.start_within_s + attempt.run_within_s)
