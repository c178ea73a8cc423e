"""The decisions: what becomes of a job when something happens. Pure: no clock, no settings, no I/O.

A job goes to its first provider, and to the next only on evidence that the attempt before can neither deliver nor cost
any more. A caller's mistake ends it at once, since another provider would be asked in vain. What happens to an attempt
that is no longer the live one changes nothing about the job.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

from contracts.attempts import AttemptCancelled, AttemptEvent, AttemptFailed, AttemptSubmitted, AttemptSucceeded
from contracts.commands import CancelAttempt, RunAttempt
from contracts.failures import FAILURES, FailureKind
from contracts.ids import attempt_id_for
from contracts.jobs import (
    AttemptOutcome,
    JobAccepted,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRerouted,
    JobStarted,
    JobSucceeded,
    PlannedRoute,
    SkippedRoute,
)
from contracts.message import Message
from contracts.requests import JobRequested
from orchestrator.job import Job, Leg

CANCEL_AGAIN_S: Final = 60.0
RETRY_S: Final = 5.0
"""How much longer a job waits for unwell providers with every round that it has waited."""
RETRY_AT_MOST_S: Final = 300.0
MOST_ATTEMPTS: Final = 1_000
GIVE_UP_S: Final = 1_800.0
"""How long after its deadline a job waits for the last word on its attempt: longer than an adapter ever watches one."""


@dataclass(frozen=True, slots=True)
class Requested:
    """A client asked for the job."""

    request: JobRequested
    legs: tuple[Leg, ...]
    skipped: tuple[SkippedRoute, ...]
    problem: str | None
    """Why there is no plan at all, in words."""
    arrived_at: datetime
    """When the request reached the log."""


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The client wants the job stopped."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """An adapter said something about one of the job's attempts."""

    event: AttemptEvent


@dataclass(frozen=True, slots=True)
class Due:
    """The job's `next_action_at` has come."""


Happening = Requested | CancelAsked | Attempted | Due


@dataclass(frozen=True, slots=True)
class Decision:
    """The job as it is now, and what to publish."""

    job: Job | None
    messages: tuple[Message, ...] = ()


def decide(job: Job | None, happening: Happening, now: datetime) -> Decision:
    """What follows from what happened to the job; None where there is no such job yet."""
    if isinstance(happening, Requested):
        return _requested(job, happening, now)
    if job is None or job.final:
        return Decision(job)
    match happening:
        case CancelAsked():
            return _cancel_asked(job, now)
        case Attempted(event):
            return _attempted(job, event, now)
        case Due():
            return _due(job, now)
        case _:
            assert_never(happening)


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
        legs=asked.legs,
        ahead=tuple(range(len(asked.legs))),
        skipped=asked.skipped,
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
    accepted = _told(fresh, JobAccepted, now, plan=planned, skipped=fresh.skipped, deadline_at=fresh.deadline_at)
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
        return Decision(job)
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
    closed = _closed(job, live, outcome="succeeded", cost_usd=event.cost_usd)
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
    closed = _closed(
        job,
        live,
        outcome="failed",
        kind=event.kind,
        error_code=event.error_code,
        message=event.message,
        cost_usd=event.cost_usd,
    )
    if job.cancel_requested:
        # Nobody knows of an ambiguous submit whether it was sent, and so whether it was billed.
        maybe = event.accepted or event.kind is FailureKind.AMBIGUOUS_SUBMISSION
        return _cancelled(closed, "may_have_cost" if maybe else "never_sent", now)
    if not FAILURES[event.kind].moves_on:
        return _failed(closed, event.kind, f"{live.provider}: {event.message}", now)
    if event.kind is FailureKind.UNAVAILABLE:
        closed = _passed_over(closed, event, now)
    if now >= job.deadline_at:
        return _failed(closed, FailureKind.EXPIRED, f"the deadline passed; {_every_reason(closed)}", now)
    if closed.ahead:
        return _move_on(closed, now)
    if closed.unwell and closed.ordered < MOST_ATTEMPTS:
        # Everybody who could do it is unwell: that is a reason to wait, not to fail.
        return Decision(replace(closed, state="queued", next_action_at=min(closed.retry_at or now, closed.deadline_at)))
    return _failed(closed, FailureKind.NO_ROUTE, _every_reason(closed), now)


def _passed_over(job: Job, event: AttemptFailed, now: datetime) -> Job:
    # The longer it has waited, the less often it asks; and it remembers of each provider only the last refusal.
    rounds = job.ordered // len(job.legs)
    soonest = now + timedelta(seconds=min(RETRY_AT_MOST_S, RETRY_S * rounds))
    again = max(event.retry_at or soonest, soonest)
    *earlier, last = job.attempts
    kept = [a for a in earlier if (a.kind, a.provider) != (FailureKind.UNAVAILABLE, last.provider)]
    unwell = (*job.unwell, job.at_leg)
    return replace(job, attempts=(*kept, last), unwell=unwell, retry_at=min(again, job.retry_at or again))


def _move_on(job: Job, now: datetime) -> Decision:
    """Order the next attempt, and say from where to where."""
    last = job.attempts[-1]
    ordered = _order(job, now)
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
        message=last.message,
    )
    return Decision(rerouted.job, ordered.messages + rerouted.messages)


def _every_reason(job: Job) -> str:
    reasons = [f"{a.provider} (attempt {a.n}): {a.kind}: {(a.message or '')[:500]}" for a in job.attempts]
    return ("every provider was tried. " + "; ".join(reasons))[:4000]


def _attempt_cancelled(job: Job, live: AttemptOutcome, event: AttemptCancelled, now: datetime) -> Decision:
    cost_usd = None if event.may_have_cost else 0.0
    closed = _closed(job, live, outcome="cancelled", message=event.message, cost_usd=cost_usd)
    if job.cancel_requested:
        never_sent = event.provider_ref is None
        effect: Literal["never_sent", "cancelled_free", "may_have_cost"] = (
            "may_have_cost" if event.may_have_cost else "never_sent" if never_sent else "cancelled_free"
        )
        return _cancelled(closed, effect, now)
    return _failed(closed, FailureKind.EXPIRED, "the job's deadline passed; its attempt was stopped", now)


def _cancel_asked(job: Job, now: datetime) -> Decision:
    live = job.live_attempt
    if live is None:
        paid = any(attempt.cost_usd for attempt in job.attempts)
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
    if now >= job.deadline_at + timedelta(seconds=GIVE_UP_S):
        why = "the deadline passed, and the attempt's adapter has not said how it ended"
        return _failed(job, FailureKind.EXPIRED, why, now)
    again = replace(job, next_action_at=now + timedelta(seconds=CANCEL_AGAIN_S))
    reason: Literal["client", "deadline"] = "deadline" if now >= job.deadline_at else "client"
    return Decision(again, (_cancel(job, live, reason, now),))


def _try_the_unwell_again(job: Job, now: datetime) -> Decision:
    if now >= job.deadline_at or not job.unwell:
        return _failed(job, FailureKind.EXPIRED, f"the deadline passed; {_every_reason(job)}", now)
    return _move_on(replace(job, ahead=job.unwell, unwell=(), retry_at=None), now)


def _cancel(job: Job, live: AttemptOutcome, reason: Literal["client", "deadline"], now: datetime) -> CancelAttempt:
    return CancelAttempt(
        job_id=job.job_id, occurred_at=now, attempt_id=live.attempt_id, provider=live.provider, reason=reason
    )


def _cancelled(job: Job, effect: Literal["never_sent", "cancelled_free", "may_have_cost"], now: datetime) -> Decision:
    ended = replace(job, state="cancelled", next_action_at=None)
    return _told(ended, JobCancelled, now, effect=effect, attempts=job.attempts)


def _failed(job: Job, kind: FailureKind, message: str, now: datetime) -> Decision:
    ended = replace(job, state="failed", next_action_at=None, kind=kind)
    return _told(ended, JobFailed, now, kind=kind, message=message[:4000], attempts=job.attempts, cost_usd=job.cost_usd)


def _closed(job: Job, live: AttemptOutcome, **how: object) -> Job:
    return replace(job, attempts=(*job.attempts[:-1], live.model_copy(update=how)))


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
