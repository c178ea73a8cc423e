"""Cancelling: the run is to stop, and the provider is asked until it says how it ended. Pure."""

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
    MISSING_TRIES,
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
"""How long after its cancel, and at least up to the deadline, the job waits to hear how its run ended."""


def cancel(attempt: Attempt, running: Running, reason: CancelReason, now: datetime) -> Step:
    """Enter `cancelling`, and ask the provider to stop the run."""
    cancelling = Cancelling(running.run, reason, cancel_sent_at=now, fetch_by=running.fetch_by)
    return Step(with_lease(replace(attempt, state=cancelling, tries=0), now), action=Cancel())


def watch_cancel(attempt: Attempt, cancelling: Cancelling, now: datetime) -> Step:
    """Ask again for the cancel and for the state of the run, until the wait for its confirmation is over."""
    sent_at = now if cancelling.cancel_sent_at is None else cancelling.cancel_sent_at
    # Up to the deadline only the provider's word ends it: a run that may still deliver is no reason to buy another.
    if now >= max(sent_at + timedelta(seconds=CANCEL_WATCH_S), attempt.deadline_at):
        return run_stopped(attempt, cancelling, may_have_cost=True, now=now, follow_up=Watching)
    if not cancelling.run.cancel_answered and attempt.tries % 2 == 0:
        # It may have been sent before, by a process that died of it; a second one does no harm.
        sent = replace(attempt, state=replace(cancelling, cancel_sent_at=sent_at))
        return Step(with_lease(sent, now), action=Cancel())
    return Step(with_lease(attempt, now), action=Check())


def cancel_answered(attempt: Attempt, cancelling: Cancelling, outcome: CancelOutcome, now: datetime) -> Step:
    """The provider's response to the cancel."""
    answered = replace(cancelling, run=replace(cancelling.run, cancel_answered=True))
    match outcome:
        case Stopped(may_have_cost):
            return run_stopped(attempt, cancelling, may_have_cost=may_have_cost, now=now)
        case CancelPending():
            return Step(replace(attempt, state=answered, tries=0, next_action_at=now + timedelta(seconds=1)))
        case AlreadyOver():
            return Step(with_lease(replace(attempt, state=answered, tries=0), now), action=Check())
        case Missing(reason):
            return run_unknown(attempt, cancelling, reason, now)
        case NoAnswer():
            return reschedule(attempt, now, most_s=30.0)
        case _:
            assert_never(outcome)


def run_unknown(attempt: Attempt, state: Running | Cancelling | Collecting, reason: str, now: datetime) -> Step:
    """A provider that does not know a run it accepted says nothing about how that ended: it is asked again."""
    cancelling = isinstance(state, Cancelling)
    # Where nobody else will be paid, its word is believed sooner; a promise to stop a run is none that it has stopped.
    harmless = cancelling and state.cancel_reason in ("client", "deadline")
    if harmless and attempt.tries + 1 >= MISSING_TRIES:
        return run_stopped(attempt, state, may_have_cost=True, now=now, follow_up=Watching)
    if (again := not_known(attempt, state, reason, now)) is not None:
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
            failure = Failure(FailureKind.RUN_TIMEOUT, "the provider stopped it at the end of the time it was given")
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
