"""The decisions: what becomes of a job when something happens. Pure: no clock, no settings, no I/O.

A job goes to its first provider, and to the next only on evidence that the attempt before can neither deliver nor cost
any more. A caller's mistake ends it at once, since another provider would be asked in vain. What happens to an attempt
that is no longer the live one changes nothing about the job.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from contracts.failures import FailureKind
from contracts.messages.base import Message
from contracts.messages.jobs import (
    AttemptOutcome,
)
from orchestrator.decisions.after_attempt import attempted
from orchestrator.decisions.attempt_outcomes import after_the_end
from orchestrator.decisions.decision import Decision, cancel_command, job_cancelled, job_failed
from orchestrator.decisions.inputs import Attempted, CancelAsked, CollectAsked, Due, Input, Requested, Ruled
from orchestrator.decisions.job import Job
from orchestrator.decisions.operator_commands import collect_command, resolve_command
from orchestrator.decisions.order_attempt import reroute
from orchestrator.decisions.remaining_candidates import nowhere_to_go, within_ceiling
from orchestrator.decisions.request import requested

CANCEL_AGAIN_S: Final = 60.0
DEADLINE_GRACE_S: Final = 15.0
"""Seconds after its deadline for which a job waits to hear how its attempt ended. Then it ends without that word."""


def decide(job: Job | None, input_: Input, now: datetime) -> Decision:
    """What follows from what happened to the job; None where there is no such job yet."""
    if isinstance(input_, Requested):
        return requested(job, input_, now)
    if isinstance(input_, Ruled):
        return _passed_on(job, resolve_command(job, input_.verdict))
    if isinstance(input_, CollectAsked):
        return _passed_on(job, collect_command(job, input_.request))
    if job is None:
        return Decision(None)
    if job.final:
        return Decision(after_the_end(job, input_.event) if isinstance(input_, Attempted) else job)
    match input_:
        case CancelAsked():
            return _cancel_asked(job, now)
        case Attempted(event):
            return attempted(job, event, now)
        case Due():
            return _due(job, now)
        case _:
            assert_never(input_)


def _cancel_asked(job: Job, now: datetime) -> Decision:
    live = job.live_attempt
    if live is None:
        paid = any(attempt.cost_usd != 0 for attempt in job.attempts)
        return job_cancelled(job, "may_have_cost" if paid else "never_sent", now)
    if job.cancel_requested:
        return Decision(job)
    # The wish may reach the adapter before the attempt does, after a crash: it is repeated until the attempt ends.
    again_at = min(job.deadline_at, now + timedelta(seconds=CANCEL_AGAIN_S))
    asked = replace(job, cancel_requested=True, next_action_at=again_at)
    return Decision(asked, (cancel_command(job, live, "client", now),))


def _due(job: Job, now: datetime) -> Decision:
    live = job.live_attempt
    if live is None:
        return _try_the_unwell_again(job, now)
    over_at = job.deadline_at + timedelta(seconds=DEADLINE_GRACE_S)
    if now >= over_at:
        return _unheard(job, live, now)
    if now >= job.deadline_at:
        return Decision(replace(job, next_action_at=over_at), (cancel_command(job, live, "deadline", now),))
    again_at = min(job.deadline_at, now + timedelta(seconds=CANCEL_AGAIN_S))
    return Decision(replace(job, next_action_at=again_at), (cancel_command(job, live, "client", now),))


def _unheard(job: Job, live: AttemptOutcome, now: datetime) -> Decision:
    """The deadline is over, and the adapter has not said how the attempt ended: the job ends all the same."""
    if job.cancel_requested:
        return job_cancelled(job, "may_have_cost", now)
    if job.state == "running":
        known = f"{live.provider} had accepted attempt {live.n}, which may still run, and is stopped if it does"
    else:
        known = f"whether attempt {live.n} was sent to {live.provider} is not known; after the deadline it is not sent"
    why = f"the deadline passed, and the adapter has not said how its attempt ended: {known}"
    return job_failed(job, FailureKind.EXPIRED, why, now)


def _try_the_unwell_again(job: Job, now: datetime) -> Decision:
    if now >= job.deadline_at or not job.unavailable:
        return job_failed(job, FailureKind.EXPIRED, f"the deadline passed; {nowhere_to_go(job)}", now)
    again = within_ceiling(replace(job, remaining=job.unavailable, unavailable=(), retry_at=None))
    return (
        reroute(again, now) if again.remaining else job_failed(again, FailureKind.NO_ROUTE, nowhere_to_go(again), now)
    )


def _passed_on(job: Job | None, command: Message | None) -> Decision:
    """An operator's request goes to the adapter, also of a job that is over: its attempts' costs still count."""
    return Decision(job, () if command is None else (command,))
