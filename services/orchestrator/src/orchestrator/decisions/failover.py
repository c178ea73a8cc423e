"""Which of its legs a job may still take: the price ceiling, waiting for the unwell, submitting again. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from contracts.failures import FailureKind
from contracts.messages.attempts import AttemptFailed
from contracts.messages.jobs import AttemptOutcome, SkippedRoute
from contracts.messages.wording import in_dollars
from orchestrator.decisions.job import Job, Leg

RETRY_S: Final = 5.0
"""How much longer a job waits for unwell providers with every round that it has waited."""
RETRY_AT_MOST_S: Final = 300.0


def too_dear(price_usd: float | None, ceiling_usd: float | None, spent_usd: float = 0.0) -> str | None:
    """Why a run at this price may not be ordered, in words with the figures; None if it may."""
    if ceiling_usd is None:
        return None
    after = f" after {in_dollars(spent_usd)} spent" if spent_usd else ""
    if price_usd is None:
        return f"nobody knows its price, so it may pass the ceiling of {in_dollars(ceiling_usd)}{after}"
    if round(spent_usd + price_usd, 6) <= round(ceiling_usd, 6):
        return None
    return f"{in_dollars(price_usd)} would pass the ceiling of {in_dollars(ceiling_usd)}{after}"


def spent_usd(job: Job) -> float:
    """What the job's attempts have cost at the most; one whose cost is not known counts with its whole price."""
    return sum(_at_most(job, attempt) for attempt in job.attempts if attempt.outcome != "live")


def _at_most(job: Job, attempt: AttemptOutcome) -> float:
    if attempt.cost_usd is not None:
        return attempt.cost_usd
    return max((leg.price_usd or 0.0 for leg in job.legs if leg.provider == attempt.provider), default=0.0)


def within_ceiling(job: Job) -> Job:
    """The job without the legs that it can no longer pay for; they are among those skipped, each with the figures."""
    spent = spent_usd(job)
    reasons = {n: too_dear(job.legs[n].price_usd, job.max_cost_usd, spent) for n in (*job.ahead, *job.unwell)}
    skipped = tuple(_skipped(job.legs[n], reason) for n, reason in reasons.items() if reason is not None)
    if not skipped:
        return job
    return replace(
        job,
        ahead=tuple(n for n in job.ahead if reasons[n] is None),
        unwell=tuple(n for n in job.unwell if reasons[n] is None),
        skipped=(*job.skipped, *skipped),
        untold=(*job.untold, *skipped),
    )


def _skipped(leg: Leg, reason: str) -> SkippedRoute:
    return SkippedRoute(provider=leg.provider, model=leg.model, endpoint=leg.endpoint, reason=reason)


def passed_over(job: Job, event: AttemptFailed, now: datetime) -> Job:
    """The job after a provider that is unwell was not asked: its leg may be tried again later."""
    # The longer it has waited, the less often it asks; and it remembers of each provider only the last refusal.
    rounds = job.ordered // len(job.legs)
    soonest = now + timedelta(seconds=min(RETRY_AT_MOST_S, RETRY_S * rounds))
    again = max(event.retry_at or soonest, soonest)
    *earlier, last = job.attempts
    kept = [a for a in earlier if (a.kind, a.provider) != (FailureKind.UNAVAILABLE, last.provider)]
    unwell = (*job.unwell, job.at_leg)
    return replace(job, attempts=(*kept, last), unwell=unwell, retry_at=min(again, job.retry_at or again))


def resubmitting(job: Job) -> Job:
    """The client would rather pay twice than wait: the others first, and then, once, the same provider again."""
    lost_here = sum(a.kind is FailureKind.AMBIGUOUS_SUBMISSION for a in job.attempts if a.provider == job.leg.provider)
    return replace(job, ahead=(*job.ahead, job.at_leg)) if lost_here == 1 else job


def nowhere_to_go(job: Job) -> str:
    """Why no leg is left: what came of every attempt, and what was not tried."""
    tried = [f"{a.provider} (attempt {a.n}): {a.kind}: {(a.message or '')[:500]}" for a in job.attempts]
    skipped = [f"skipped {route.provider}: {route.reason}" for route in job.skipped]
    left_over = skipped or job.ahead or job.unwell
    first = "no provider is left. " if left_over else "every provider was tried. "
    return (first + "; ".join([*tried, *skipped]))[:4000]
