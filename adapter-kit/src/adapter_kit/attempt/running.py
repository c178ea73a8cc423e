"""Running: the provider has accepted the run, and is asked how it stands. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

from adapter_kit.attempt.actions import Check, Collect
from adapter_kit.attempt.backoff import next_look_s, poll_interval_s
from adapter_kit.attempt.cancelling import cancel, run_stopped
from adapter_kit.attempt.collecting import (
    output_pending,
    unreadable,
    window,
)
from adapter_kit.attempt.model import (
    Attempt,
    CancelReason,
    Step,
    failed,
    with_event,
    with_lease,
)
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


def accepted(attempt: Attempt, ref: ProviderRef, now: datetime) -> Step:
    """Enter `running`, or `cancelling` where a cancel came first: the provider has named the run."""
    running = replace(attempt, ref=ref, accepted_at=now, tries=0, resolve_by=None)
    if attempt.cancel_reason is not None:
        return with_event(replace(running, state="cancelling", next_action_at=now), AttemptSubmitted, now)
    due = now + timedelta(seconds=poll_interval_s(0))
    return with_event(replace(running, state="running", next_action_at=due), AttemptSubmitted, now)


def watch(attempt: Attempt, now: datetime) -> Step:
    """Ask how the run stands; or cancel it, where its time or the deadline has passed."""
    if (reason := _overdue(attempt, now)) is not None:
        return cancel(attempt, reason, now)
    return Step(with_lease(attempt, now), action=Check())


def _overdue(attempt: Attempt, now: datetime) -> CancelReason | None:
    accepted_at = attempt.accepted_at or now
    if now >= attempt.deadline_at:
        return "deadline"
    if attempt.started_at is None:
        late = now >= accepted_at + timedelta(seconds=attempt.start_within_s)
        return "start_timeout" if late else None
    return "run_timeout" if now >= attempt.started_at + timedelta(seconds=attempt.run_within_s) else None


def progressed(
    attempt: Attempt,
    stage: Literal["queued", "running"],
    position: int | None,
    now: datetime,
    *,
    callbacks_arrive: bool,
) -> Step:
    """The run waits or runs at the provider; the next check is due after a growing interval."""
    position = None if position is None else min(max(position, 0), LONGEST_QUEUE)
    moved = replace(
        attempt,
        stage=stage,
        queue_position=position,
        started_at=attempt.started_at or (now if stage == "running" else None),
        fetch_by=None,
        tries=0,
    )
    age_s = (now - (attempt.accepted_at or now)).total_seconds()
    start_left_s = attempt.start_within_s - age_s if moved.started_at is None else None
    wait_s = next_look_s(age_s, start_left_s, backstop=callbacks_arrive and attempt.expects_callback)
    moved = replace(moved, next_action_at=now + timedelta(seconds=wait_s))
    if (attempt.stage, attempt.queue_position) == (stage, position):
        return Step(moved)
    return with_event(moved, AttemptProgressed, now, stage=stage, queue_position=position)


def run_over(
    attempt: Attempt, outcome: Produced | OutputPending | Unreadable | Broken | Stopped, now: datetime
) -> Step:
    """The provider says how the run ended."""
    match outcome:
        case Produced(outputs):
            collecting = replace(attempt, state="collecting", outputs=outputs, fetch_by=window(attempt, now), tries=0)
            return with_event(with_lease(collecting, now), AttemptProgressed, now, Collect(), stage="collecting")
        case OutputPending(reason, instead):
            return output_pending(attempt, reason, now, instead)
        case Unreadable():
            return unreadable(attempt, outcome, now)
        case Broken(failure, may_have_cost):
            return failed(attempt, failure, now, cost_usd=attempt.price_usd if may_have_cost else 0.0)
        case Stopped(may_have_cost):
            return run_stopped(attempt, may_have_cost=may_have_cost, now=now)
        case _:
            assert_never(outcome)
