"""The decisions: what becomes of a job when something happens. Pure: no clock, no settings, no I/O.

A job goes to its first provider, and to the next only on evidence that the attempt before can neither deliver nor cost
any more. A caller's mistake ends it at once, since another provider would be asked in vain. What happens to an attempt
that is no longer the live one changes nothing about the job.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

from contracts.failures import FAILURES, LOST_OUTPUT, FailureKind
from contracts.ids import attempt_id_for
from contracts.messages.attempts import (
    AttemptCancelled,
    AttemptEvent,
    AttemptFailed,
    AttemptSubmitted,
    AttemptSucceeded,
)
from contracts.messages.base import Message
from contracts.messages.commands import CancelAttempt, RunAttempt
from contracts.messages.jobs import (
    AttemptOutcome,
    CancelEffect,
    JobAccepted,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRerouted,
    JobStarted,
    JobSucceeded,
    PlannedRoute,
)
from orchestrator.decisions.attempt_outcomes import after_the_end, how_it_failed, learned, with_outcome
from orchestrator.decisions.failover import nowhere_to_go, passed_over, resubmitting, within_ceiling
from orchestrator.decisions.inputs import Attempted, CancelAsked, CollectAsked, Due, Input, Requested, Ruled
from orchestrator.decisions.job import Job
from orchestrator.decisions.operator_commands import collect_command, resolve_command

CANCEL_AGAIN_S: Final = 60.0
MOST_ATTEMPTS: Final = 1_000
DEADLINE_GRACE_S: Final = 15.0
"""Seconds after its deadline for which a job waits to hear how its attempt ended. Then it ends without that word."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The job as it is now, and what to publish."""

    job: Job | None
    messages: tuple[Message, ...] = ()


def decide(job: Job | None, input_: Input, now: datetime) -> Decision:
    """What follows from what happened to the job; None where there is no such job yet."""
    if isinstance(input_, Requested):
        return _requested(job, input_, now)
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
            return _attempted(job, event, now)
        case Due():
            return _due(job, now)
        case _:
            assert_never(input_)


def _requested(job: Job | None, asked: Requested, now: datetime) -> Decision:
    request = asked.request
    in_time = asked.arrived_at <= request.accept_by
    # The client of a request that came too late was told to repeat it: the repeat is the job, the late one never ran.
    never_ran = job is not None and job.kind is FailureKind.EXPIRED and not job.attempts
    if job is not None and not (never_ran and in_time and job.fingerprint == request.fingerprint):
        return Decision(job)
    fresh = Job(
        job_id=request.job_id,
        track_id=request.track_id,
        tenant=request.tenant,
        fingerprint=request.fingerprint,
        deadline_at=request.deadline_at,
        created_at=now,
        ambiguity_policy=request.ambiguity_policy,
        lost_output_policy=request.lost_output_policy,
        legs=asked.legs,
        ahead=tuple(range(len(asked.legs))),
        skipped=asked.skipped,
        max_cost_usd=asked.max_cost_usd,
        version=job.version if job else 0,
        next_action_at=request.deadline_at,
    )
    if not in_time or now >= request.deadline_at:
        late = "acceptance deadline" if not in_time else "deadline"
        return _failed(fresh, FailureKind.EXPIRED, f"the request arrived after its {late}; nothing was sent", now)
    planned = tuple(
        PlannedRoute(provider=leg.provider, model=leg.model, endpoint=leg.endpoint, substitute=leg.substitute)
        for leg in fresh.legs
    )
    where = {"plan": planned, "skipped": fresh.skipped, "because": asked.because}
    accepted = _told(fresh, JobAccepted, now, **where, deadline_at=fresh.deadline_at)
    if accepted.job is None or not fresh.legs:
        return _after(accepted, _failed(accepted.job or fresh, FailureKind.NO_ROUTE, _no_route(asked), now))
    return _after(accepted, _order(accepted.job, now))


def _no_route(asked: Requested) -> str:
    reasons = "; ".join(f"{route.provider} {route.endpoint}: {route.reason}" for route in asked.skipped)
    return asked.problem or f"no provider can do what was asked: {reasons or 'no route is left'}"


def _order(job: Job, now: datetime) -> Decision:
    """Order an attempt at the next leg."""
    n = job.ordered + 1
    at_leg, *ahead = job.ahead
    leg = job.legs[at_leg]
    attempt_id = attempt_id_for(job.job_id, n)
    live = AttemptOutcome(attempt_id=attempt_id, n=n, provider=leg.provider, outcome="live")
    command = RunAttempt(
        job_id=job.job_id,
        occurred_at=now,
        attempt_id=attempt_id,
        provider=leg.provider,
        track_id=job.track_id,
        n=n,
        model=leg.model,
        endpoint=leg.endpoint,
        arguments=dict(leg.arguments),
        modality=leg.modality,
        start_within_s=leg.start_within_s,
        run_within_s=leg.run_within_s,
        price_usd=leg.price_usd,
        deadline_at=job.deadline_at,
        ambiguity_policy=job.ambiguity_policy,
        lost_output_policy=job.lost_output_policy,
    )
    ordered = replace(
        job,
        ordered=n,
        attempts=(*job.attempts, live),
        at_leg=at_leg,
        ahead=tuple(ahead),
        next_action_at=job.deadline_at,
    )
    return Decision(ordered, (command,))


def _attempted(job: Job, event: AttemptEvent, now: datetime) -> Decision:
    live = job.live_attempt
    if live is None or live.attempt_id != event.attempt_id:
        return Decision(learned(job, event))
    match event:
        case AttemptSubmitted() if job.state == "queued":
            running = replace(job, state="running")
            return _told(running, JobStarted, now, attempt_id=live.attempt_id, provider=live.provider)
        case AttemptSucceeded():
            return _succeeded(job, live, event, now)
        case AttemptFailed():
            return _attempt_failed(job, live, event, now)
        case AttemptCancelled():
            return _attempt_cancelled(job, live, event, now)
        case _:
            return Decision(job)


def _succeeded(job: Job, live: AttemptOutcome, event: AttemptSucceeded, now: datetime) -> Decision:
    closed = with_outcome(job, live, outcome="succeeded", cost_usd=event.cost_usd)
    return _told(
        replace(closed, state="succeeded", next_action_at=None),
        JobSucceeded,
        now,
        attempt_id=live.attempt_id,
        provider=live.provider,
        model=event.model,
        artifacts=event.artifacts,
        cost_usd=closed.cost_usd,
    )


def _attempt_failed(job: Job, live: AttemptOutcome, event: AttemptFailed, now: datetime) -> Decision:
    closed = with_outcome(job, live, **how_it_failed(event))
    if job.cancel_requested:
        return _cancelled(closed, _effect_of_failing(event), now)
    if event.kind is FailureKind.AMBIGUOUS_SUBMISSION and job.ambiguity_policy == "resubmit":
        closed = resubmitting(closed)
    elif event.kind in LOST_OUTPUT and job.lost_output_policy == "fail":
        kept = f"{live.provider}: {event.message}; no other provider is paid for it (lost_output_policy: fail)"
        return _failed(closed, event.kind, kept, now)
    elif not FAILURES[event.kind].moves_on:
        return _failed(closed, event.kind, f"{live.provider}: {event.message}", now)
    if event.kind is FailureKind.UNAVAILABLE:
        closed = passed_over(closed, event, now)
    if now >= job.deadline_at:
        return _failed(closed, FailureKind.EXPIRED, f"the deadline passed; {nowhere_to_go(closed)}", now)
    closed = within_ceiling(closed)
    if closed.ahead:
        return _move_on(closed, now)
    if closed.unwell and closed.ordered < MOST_ATTEMPTS:
        # Everybody who could do it is unwell: that is a reason to wait, not to fail.
        return Decision(replace(closed, state="queued", next_action_at=min(closed.retry_at or now, closed.deadline_at)))
    return _failed(closed, FailureKind.NO_ROUTE, nowhere_to_go(closed), now)


def _effect_of_failing(event: AttemptFailed) -> CancelEffect:
    """What a cancel came to where the attempt failed before it could be stopped."""
    # Nobody knows of an ambiguous submit whether it was sent, and so whether it was billed.
    if event.kind is FailureKind.AMBIGUOUS_SUBMISSION:
        return "may_have_cost"
    if not event.accepted:
        return "never_sent"
    return "cancelled_free" if event.known_cost_usd == 0 else "may_have_cost"


def _move_on(job: Job, now: datetime) -> Decision:
    """Order the next attempt, and say from where to where."""
    last = job.attempts[-1]
    ordered = _order(replace(job, untold=()), now)
    live = ordered.job.live_attempt if ordered.job else None
    if ordered.job is None or live is None:
        return ordered
    rerouted = _told(
        ordered.job,
        JobRerouted,
        now,
        from_attempt_id=last.attempt_id,
        from_provider=last.provider,
        to_attempt_id=live.attempt_id,
        to_provider=live.provider,
        kind=last.kind,
        error_code=last.error_code,
        message=last.message,
        http_status=last.http_status,
        skipped=job.untold,
        cost_usd=last.cost_usd,
        price_usd=ordered.job.leg.price_usd,
    )
    return Decision(rerouted.job, ordered.messages + rerouted.messages)


def _attempt_cancelled(job: Job, live: AttemptOutcome, event: AttemptCancelled, now: datetime) -> Decision:
    cost_usd = None if event.may_have_cost else 0.0
    closed = with_outcome(job, live, outcome="cancelled", message=event.message, cost_usd=cost_usd)
    if job.cancel_requested:
        never_sent = event.provider_ref is None
        effect: CancelEffect = (
            "may_have_cost" if event.may_have_cost else "never_sent" if never_sent else "cancelled_free"
        )
        return _cancelled(closed, effect, now)
    return _failed(closed, FailureKind.EXPIRED, "the job's deadline passed; its attempt was stopped", now)


def _cancel_asked(job: Job, now: datetime) -> Decision:
    live = job.live_attempt
    if live is None:
        paid = any(attempt.cost_usd != 0 for attempt in job.attempts)
        return _cancelled(job, "may_have_cost" if paid else "never_sent", now)
    if job.cancel_requested:
        return Decision(job)
    # The wish may reach the adapter before the attempt does, after a crash: it is repeated until the attempt ends.
    again_at = min(job.deadline_at, now + timedelta(seconds=CANCEL_AGAIN_S))
    asked = replace(job, cancel_requested=True, next_action_at=again_at)
    return Decision(asked, (_cancel(job, live, "client", now),))


def _due(job: Job, now: datetime) -> Decision:
    live = job.live_attempt
    if live is None:
        return _try_the_unwell_again(job, now)
    over_at = job.deadline_at + timedelta(seconds=DEADLINE_GRACE_S)
    if now >= over_at:
        return _unheard(job, live, now)
    if now >= job.deadline_at:
        return Decision(replace(job, next_action_at=over_at), (_cancel(job, live, "deadline", now),))
    again_at = min(job.deadline_at, now + timedelta(seconds=CANCEL_AGAIN_S))
    return Decision(replace(job, next_action_at=again_at), (_cancel(job, live, "client", now),))


def _unheard(job: Job, live: AttemptOutcome, now: datetime) -> Decision:
    """The deadline is over, and the adapter has not said how the attempt ended: the job ends all the same."""
    if job.cancel_requested:
        return _cancelled(job, "may_have_cost", now)
    if job.state == "running":
        known = f"{live.provider} had accepted attempt {live.n}, which may still run, and is stopped if it does"
    else:
        known = f"whether attempt {live.n} was sent to {live.provider} is not known; after the deadline it is not sent"
    why = f"the deadline passed, and the adapter has not said how its attempt ended: {known}"
    return _failed(job, FailureKind.EXPIRED, why, now)


def _try_the_unwell_again(job: Job, now: datetime) -> Decision:
    if now >= job.deadline_at or not job.unwell:
        return _failed(job, FailureKind.EXPIRED, f"the deadline passed; {nowhere_to_go(job)}", now)
    again = within_ceiling(replace(job, ahead=job.unwell, unwell=(), retry_at=None))
    return _move_on(again, now) if again.ahead else _failed(again, FailureKind.NO_ROUTE, nowhere_to_go(again), now)


def _passed_on(job: Job | None, command: Message | None) -> Decision:
    """An operator's request goes to the adapter, also of a job that is over: its attempts' costs still count."""
    return Decision(job, () if command is None else (command,))


def _cancel(job: Job, live: AttemptOutcome, reason: Literal["client", "deadline"], now: datetime) -> CancelAttempt:
    return CancelAttempt(
        job_id=job.job_id, occurred_at=now, attempt_id=live.attempt_id, provider=live.provider, reason=reason
    )


def _cancelled(job: Job, effect: CancelEffect, now: datetime) -> Decision:
    """It is over at its client's wish; `effect` is what that came to for its last attempt."""
    paid_before = any(attempt.cost_usd != 0 for attempt in job.attempts[:-1])
    ended = replace(job, state="cancelled", next_action_at=None)
    return _told(ended, JobCancelled, now, effect="may_have_cost" if paid_before else effect, attempts=job.attempts)


def _failed(job: Job, kind: FailureKind, message: str, now: datetime) -> Decision:
    ended = replace(job, state="failed", next_action_at=None, kind=kind)
    return _told(ended, JobFailed, now, kind=kind, message=message[:4000], attempts=job.attempts, cost_usd=job.cost_usd)


def _told(job: Job, event: type[JobEvent], now: datetime, /, **said: object) -> Decision:
    told = replace(job, version=job.version + 1)
    happened = event.model_validate(
        {
            "job_id": told.job_id,
            "track_id": told.track_id,
            "tenant": told.tenant,
            "occurred_at": now,
            "version": told.version,
            "status": told.state,
            **said,
        }
    )
    return Decision(told, (happened,))


def _after(first: Decision, then: Decision) -> Decision:
    return Decision(then.job, first.messages + then.messages)
