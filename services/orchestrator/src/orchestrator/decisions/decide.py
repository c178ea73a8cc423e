"""The decision on each input of a job. Pure: no clock, no settings, no I/O.

A job goes to its first provider. It goes to the next one only on evidence that the previous attempt can no longer
produce a result or a cost. An error of the caller ends it at once, since other providers would refuse the request too.
An event of an attempt that is not the live one does not change the state of the job.

No attempt is ordered from an adapter that is silent. An attempt that was ordered before stays where it is, since the
adapter may have sent it: its job ends at the deadline, or after a cancel.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from contracts.failures import FailureKind
from contracts.messages.base import Message
from contracts.messages.jobs import AttemptOutcome
from orchestrator.decisions.after_attempt import attempted
from orchestrator.decisions.attempt_outcomes import after_job_ended
from orchestrator.decisions.decision import Decision, cancel_command, job_cancelled, job_failed
from orchestrator.decisions.inputs import Attempted, CancelAsked, CollectAsked, Due, Input, Requested, ResolveAsked
from orchestrator.decisions.job import Job
from orchestrator.decisions.operator_commands import collect_command, resolve_command
from orchestrator.decisions.order_attempt import order_or_wait
from orchestrator.decisions.remaining_candidates import (
    NOBODY,
    Silent,
    is_silent,
    no_candidate_left,
    with_due_again,
    within_ceiling,
)
from orchestrator.decisions.request import requested

CANCEL_AGAIN_S: Final = 60.0
DEADLINE_GRACE_S: Final = 15.0
"""Seconds after its deadline for which a job waits for the end of its attempt to be reported, and then ends anyway."""
CANCEL_GRACE_S: Final = 15.0
"""The same after a cancel, in case the adapter is silent."""


def decide(job: Job | None, input_: Input, now: datetime, silent: Silent = NOBODY) -> Decision:
    """The decision on an input; `job` is None if there is no such job yet. `now` is the database's time.

    `silent` are the providers whose adapters have not been heard of for a while.
    """
    if isinstance(input_, Requested):
        return requested(job, input_, now, silent)
    if isinstance(input_, ResolveAsked):
        return _forwarded(job, resolve_command(job, input_.request))
    if isinstance(input_, CollectAsked):
        return _forwarded(job, collect_command(job, input_.request))
    if job is None:
        return Decision(None)
    if job.final:
        return Decision(after_job_ended(job, input_.event) if isinstance(input_, Attempted) else job)
    match input_:
        case CancelAsked(asked_at):
            # It was for the request that expired; Kafka delivers it again if its offset was not committed.
            if job.revived_at is not None and asked_at < job.revived_at:
                return Decision(job)
            return _cancel_asked(job, now, silent)
        case Attempted(event):
            return attempted(job, event, now, silent)
        case Due(reports_read):
            return _due(job, now, silent, reports_read=reports_read)
        case _:
            assert_never(input_)


def _cancel_asked(job: Job, now: datetime, silent: Silent) -> Decision:
    live = job.live_attempt
    if live is None:
        paid = any(attempt.cost_usd != 0 for attempt in job.attempts)
        return job_cancelled(job, "may_have_cost" if paid else "never_sent", now)
    if job.cancel_requested:
        return Decision(job)
    # After a crash the command may reach the adapter before the attempt does: it is repeated until the attempt ends.
    again_s = CANCEL_GRACE_S if is_silent(live.provider, silent) else CANCEL_AGAIN_S
    again_at = min(job.deadline_at, now + timedelta(seconds=again_s))
    asked = replace(job, cancel_requested=True, next_action_at=again_at)
    return Decision(asked, (cancel_command(job, live, "client", now),))


def _due(job: Job, now: datetime, silent: Silent, *, reports_read: bool) -> Decision:
    live = job.live_attempt
    if live is None:
        return _due_without_attempt(job, now, silent)
    over_at = job.deadline_at + timedelta(seconds=DEADLINE_GRACE_S)
    if now >= over_at and not reports_read:
        return Decision(replace(job, next_action_at=now + timedelta(seconds=DEADLINE_GRACE_S)))
    if now >= over_at:
        return _end_unreported(job, live, now)
    if now >= job.deadline_at:
        return Decision(replace(job, next_action_at=over_at), (cancel_command(job, live, "deadline", now),))
    if not job.cancel_requested:
        # Waiting jobs are made due together, and this one was given its attempt at the same moment.
        return Decision(replace(job, next_action_at=job.deadline_at))
    if is_silent(live.provider, silent):
        # The cancel was asked for at least CANCEL_GRACE_S ago. The adapter may have sent the attempt before it fell
        # silent. If it did not, it reads the cancel after the command to run it, and does not send it.
        return job_cancelled(job, "may_have_cost", now)
    again_at = min(job.deadline_at, now + timedelta(seconds=CANCEL_AGAIN_S))
    return Decision(replace(job, next_action_at=again_at), (cancel_command(job, live, "client", now),))


def _end_unreported(job: Job, live: AttemptOutcome, now: datetime) -> Decision:
    """End the job after its deadline, without a report of how its attempt ended."""
    if job.cancel_requested:
        return job_cancelled(job, "may_have_cost", now)
    # A job that an earlier release stored as running does not say which attempt was accepted; the first one was.
    accepted = job.accepted or (1 if job.state == "running" else 0)
    if accepted == live.n:
        known = f"{live.provider} had accepted attempt {live.n}, which may still run, and is stopped if it does"
    else:
        known = f"whether attempt {live.n} was sent to {live.provider} is not known; after the deadline it is not sent"
    why = f"the deadline passed, and no report of how its attempt ended has been read: {known}"
    return job_failed(job, FailureKind.EXPIRED, why, now)


def _due_without_attempt(job: Job, now: datetime, silent: Silent) -> Decision:
    if now >= job.deadline_at or not (job.remaining or job.unavailable):
        why = f"the deadline passed; {no_candidate_left(job, silent, now)}"
        return job_failed(job, FailureKind.EXPIRED, why, now)
    again = within_ceiling(with_due_again(job, now))
    if again.remaining or again.unavailable:
        return order_or_wait(again, now, silent)
    return job_failed(again, FailureKind.NO_ROUTE, no_candidate_left(again, silent, now), now)


def _forwarded(job: Job | None, command: Message | None) -> Decision:
    """An operator's request goes to the adapter also if the job has ended, as it may change the cost of an attempt."""
    return Decision(job, () if command is None else (command,))
