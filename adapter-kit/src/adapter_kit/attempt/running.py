"""Running: the provider has accepted the run, and its status is polled. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never
from zlib import crc32

from adapter_kit.attempt.actions import Check, Collect
from adapter_kit.attempt.cancelling import cancel, run_stopped
from adapter_kit.attempt.collecting import (
    collecting,
    output_pending,
    unreadable,
    window,
)
from adapter_kit.attempt.model import (
    Attempt,
    Step,
    failed,
    with_event,
    with_lease,
)
from adapter_kit.attempt.states import Cancelling, CancelReason, Collecting, Run, Running
from adapter_kit.port.outcomes import (
    Broken,
    OutputPending,
    Produced,
    ProviderRef,
    Stopped,
    Unreadable,
)
from contracts.messages.attempts import (
    AttemptProgressed,
    AttemptSubmitted,
)

LONGEST_QUEUE: Final = 1_000_000
LONGEST_UNCHECKED_S: Final = 300.0
"""Seconds for which a run's status is not requested at most, however long the provider's listing shows it."""


def poll_interval_s(age_s: float, *, backstop: bool = False) -> float:
    """Seconds between two checks of a run: a tenth of its age, between 0.4 and 5; as a `backstop` between 15 and 30.

    `backstop`: callbacks arrive, so that polling is only a fallback.
    """
    least, most = (15.0, 30.0) if backstop else (0.4, 5.0)
    return min(most, max(least, age_s / 10))


def next_look_s(age_s: float, start_left_s: float | None, *, backstop: bool) -> float:
    """Seconds to the next check of a run.

    `start_left_s`: seconds to the start deadline; None for a run that has started.
    """
    usual_s = poll_interval_s(age_s)
    if not backstop:
        return usual_s
    wait_s = poll_interval_s(age_s, backstop=True)
    if start_left_s is not None:
        # Not every provider sends a callback at the start; a run not seen to start is cancelled at its start deadline.
        wait_s = min(wait_s, start_left_s / 2)
    return max(usual_s, wait_s)


def unchecked_until(attempt: Attempt, now: datetime) -> datetime | None:
    """Until when the run need not be checked while the provider's listing shows that it goes on; None: as it is due.

    A run that has not been seen to start is checked before its start deadline, at which it would be cancelled.
    """
    if not isinstance(attempt.state, Running) or attempt.state.fetch_by is not None or attempt.tries:
        return None
    if attempt.next_action_at is None or attempt.next_action_at <= now:
        return None
    run, wait_s = attempt.state.run, LONGEST_UNCHECKED_S * _share(attempt.attempt_id)
    if run.started_at is None:
        start_by = run.accepted_at + timedelta(seconds=attempt.start_within_s)
        wait_s = min(wait_s, (start_by - now).total_seconds() / 2)
        return min(now + timedelta(seconds=wait_s), attempt.deadline_at)
    run_by = run.started_at + timedelta(seconds=attempt.run_within_s)
    return min(now + timedelta(seconds=wait_s), run_by, attempt.deadline_at)


def _share(name: str) -> float:
    """Between 0.75 and 1, by the name: so that runs of the same age are not checked at the same moment."""
    return 0.75 + crc32(name.encode()) / 2**34


def accepted(attempt: Attempt, ref: ProviderRef, now: datetime, *, own_listed_by: datetime | None = None) -> Step:
    """Enter `running`, or `cancelling` if a cancel was requested before the provider accepted the run.

    `own_listed_by` is given if a search found the run, or an operator named it.
    """
    run = Run(ref, accepted_at=now, own_listed_by=own_listed_by)
    if (reason := attempt.state.cancel_reason) is not None:
        cancelling = replace(attempt, state=Cancelling(run, reason), tries=0, next_action_at=now)
        return with_event(cancelling, AttemptSubmitted, now)
    due = now + timedelta(seconds=poll_interval_s(0))
    return with_event(replace(attempt, state=Running(run), tries=0, next_action_at=due), AttemptSubmitted, now)


def watch(attempt: Attempt, running: Running, now: datetime) -> Step:
    """Check the run; or cancel it if its start or run timeout, or the deadline, has passed."""
    if (reason := _overdue(attempt, running.run, now)) is not None:
        return cancel(attempt, running, reason, now)
    return Step(with_lease(attempt, now), action=Check(running.run.ref, now))


def _overdue(attempt: Attempt, run: Run, now: datetime) -> CancelReason | None:
    if now >= attempt.deadline_at:
        return "deadline"
    if run.started_at is None:
        late = now >= run.accepted_at + timedelta(seconds=attempt.start_within_s)
        return "start_timeout" if late else None
    return "run_timeout" if now >= run.started_at + timedelta(seconds=attempt.run_within_s) else None


def progressed(
    attempt: Attempt,
    state: Running | Cancelling,
    stage: Literal["queued", "running"],
    position: int | None,
    now: datetime,
    *,
    callbacks_arrive: bool,
) -> Step:
    """The run is queued or running at the provider; the interval to the next check grows with its age."""
    before = state.run
    position = None if position is None else min(max(position, 0), LONGEST_QUEUE)
    started_at = before.started_at or (now if stage == "running" else None)
    run = replace(before, stage=stage, queue_position=position, started_at=started_at, times_unknown=0)
    age_s = (now - run.accepted_at).total_seconds()
    start_left_s = attempt.start_within_s - age_s if started_at is None else None
    wait_s = next_look_s(age_s, start_left_s, backstop=callbacks_arrive and attempt.expects_callback)
    moved = replace(
        attempt,
        state=replace(state, run=run, fetch_by=None),
        tries=0,
        next_action_at=now + timedelta(seconds=wait_s),
    )
    if (before.stage, before.queue_position) == (stage, position):
        return Step(moved)
    return with_event(moved, AttemptProgressed, now, stage=stage, queue_position=position)


def run_over(
    attempt: Attempt,
    state: Running | Cancelling | Collecting,
    outcome: Produced | OutputPending | Unreadable | Broken | Stopped,
    asked_at: datetime,
    now: datetime,
) -> Step:
    """The provider reports, asked at `asked_at`, how the run ended."""
    match outcome:
        case Produced(outputs):
            taken = collecting(attempt, state, window(attempt, state, now), outputs)
            return with_event(with_lease(taken, now), AttemptProgressed, now, Collect(now), stage="collecting")
        case OutputPending(reason, instead):
            return output_pending(attempt, state, reason, asked_at, now, instead)
        case Unreadable():
            return unreadable(attempt, outcome, now)
        case Broken(failure, may_have_cost):
            return failed(attempt, failure, now, cost_usd=attempt.price_usd if may_have_cost else 0.0)
        case Stopped(may_have_cost):
            return run_stopped(attempt, state, may_have_cost=may_have_cost, now=now)
        case _:
            assert_never(outcome)
