"""The candidates that a job may still try: cost ceiling, silent adapters, unavailable providers, resubmits. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal

from contracts.failures import FAILURES, FailureKind
from contracts.generation import Provider
from contracts.messages.attempts import AttemptFailed
from contracts.messages.jobs import AttemptOutcome, SkippedRoute
from contracts.messages.wording import in_dollars
from orchestrator.decisions.job import Candidate, Job

RETRY_S: Final = 5.0
"""Seconds by which the wait for unavailable providers grows with each round, up to MAX_RETRY_S."""
MAX_RETRY_S: Final = 300.0
SILENT_RETRY_S: Final = 60.0
"""Seconds after which a job that waits for silent adapters is decided on again, unless one is heard of earlier."""

NOT_ENABLED: Final = "not enabled"
OFF: Final = "not enabled, and silent"
Reason = datetime | Literal["not enabled", "not enabled, and silent"] | None
Silent = Mapping[Provider, Reason]
"""The providers from which nothing is ordered: their adapters are silent, with the time at which each was last heard of
(None: never), or the providers are not enabled. Jobs may have been planned when they were."""
NOBODY: Final[Silent] = MappingProxyType({})
"""No adapter is silent."""


def is_silent(provider: Provider, silent: Silent) -> bool:
    """Whether the adapter of the provider is not heard of, so that no word of its attempts is to be expected."""
    return silent.get(provider, NOT_ENABLED) != NOT_ENABLED


def over_ceiling(price_usd: float | None, ceiling_usd: float | None, spent_usd: float = 0.0) -> str | None:
    """Why a run at this price may not be ordered; None if it may. A None ceiling allows any price."""
    if ceiling_usd is None:
        return None
    after = f" after {in_dollars(spent_usd)} spent" if spent_usd else ""
    if price_usd is None:
        return f"its price is not known, so it may pass the ceiling of {in_dollars(ceiling_usd)}{after}"
    if round(spent_usd + price_usd, 6) <= round(ceiling_usd, 6):
        return None
    return f"{in_dollars(price_usd)} would pass the ceiling of {in_dollars(ceiling_usd)}{after}"


def spent_usd(job: Job) -> float:
    """The maximum that the job's ended attempts may have cost; one of unknown cost counts with its full price."""
    return sum(_at_most(job, attempt) for attempt in job.attempts if attempt.outcome != "live")


def _at_most(job: Job, attempt: AttemptOutcome) -> float:
    if attempt.cost_usd is not None:
        return attempt.cost_usd
    return max(
        (candidate.price_usd or 0.0 for candidate in job.candidates if candidate.provider == attempt.provider),
        default=0.0,
    )


def within_ceiling(job: Job) -> Job:
    """The job with the candidates that would exceed its ceiling moved to the skipped routes."""
    spent = spent_usd(job)
    reasons = {
        n: over_ceiling(job.candidates[n].price_usd, job.max_cost_usd, spent)
        for n in (*job.remaining, *job.unavailable)
    }
    skipped = tuple(_skipped(job.candidates[n], reason) for n, reason in reasons.items() if reason is not None)
    if not skipped:
        return job
    return replace(
        job,
        remaining=tuple(n for n in job.remaining if reasons[n] is None),
        unavailable=tuple(n for n in job.unavailable if reasons[n] is None),
        skipped=(*job.skipped, *skipped),
        unreported=(*job.unreported, *skipped),
    )


def _skipped(candidate: Candidate, reason: str) -> SkippedRoute:
    return SkippedRoute(provider=candidate.provider, model=candidate.model, endpoint=candidate.endpoint, reason=reason)


def next_heard(job: Job, silent: Silent) -> int | None:
    """The first of the remaining candidates whose adapter is not silent, as an index; None if there is none."""
    return next((n for n in job.remaining if job.candidates[n].provider not in silent), None)


def skipped_silent(job: Job, silent: Silent, now: datetime) -> tuple[SkippedRoute, ...]:
    """The remaining candidates before the next one that can be ordered, which are passed over, with the reason."""
    chosen = next_heard(job, silent)
    before = job.remaining if chosen is None else job.remaining[: job.remaining.index(chosen)]
    return _silent_routes(job, before, silent, now)


def _silent_routes(job: Job, which: Sequence[int], silent: Silent, now: datetime) -> tuple[SkippedRoute, ...]:
    candidates = (job.candidates[n] for n in which)
    return tuple(_skipped(each, _silence(silent[each.provider], now)) for each in candidates if each.provider in silent)


def _silence(reason: Reason, now: datetime) -> str:
    if isinstance(reason, str):
        return "it is not enabled"
    if reason is None:
        return "its adapter has never been heard of"
    return f"its adapter has not been heard of for {(now - reason).total_seconds():.0f} s"


def waiting(job: Job, now: datetime) -> Job:
    """The job until one of its candidates can be ordered again, or up to its deadline."""
    times = [job.deadline_at]
    if job.unavailable:
        times.append(job.retry_at or now)
    if job.remaining:
        times.append(now + timedelta(seconds=SILENT_RETRY_S))
    return replace(job, state="queued", next_action_at=min(times))


def with_due_again(job: Job, now: datetime) -> Job:
    """The job with its unavailable candidates among the remaining ones, if it is time to try them again."""
    if job.retry_at is not None and now < job.retry_at:
        return job
    return replace(job, remaining=(*job.remaining, *job.unavailable), unavailable=(), retry_at=None)


def passed_over(job: Job, event: AttemptFailed, now: datetime) -> Job:
    """The job after an attempt that did not reach its provider: its candidate may be retried later."""
    # The interval grows with the number of rounds. Of such attempts, only the last of each provider is kept.
    rounds = job.ordered // len(job.candidates)
    soonest = now + timedelta(seconds=min(MAX_RETRY_S, RETRY_S * rounds))
    again = max(event.retry_at or soonest, soonest)
    *earlier, last = job.attempts
    kept = [a for a in earlier if a.provider != last.provider or a.kind is None or not FAILURES[a.kind].undelivered]
    unavailable = (*job.unavailable, job.current)
    return replace(job, attempts=(*kept, last), unavailable=unavailable, retry_at=min(again, job.retry_at or again))


def resubmitting(job: Job) -> Job:
    """The job that may submit again after an ambiguous submit: the other candidates first, then the same one, once."""
    ambiguous_here = sum(
        a.kind is FailureKind.AMBIGUOUS_SUBMISSION for a in job.attempts if a.provider == job.candidate.provider
    )
    return replace(job, remaining=(*job.remaining, job.current)) if ambiguous_here == 1 else job


def no_candidate_left(job: Job, silent: Silent, now: datetime) -> str:
    """Why no candidate is left: the outcome of every attempt, and the skipped routes; at most 4000 characters."""
    routes = (*job.skipped, *_silent_routes(job, job.remaining, silent, now))
    tried = [f"{a.provider} (attempt {a.n}): {a.kind}: {(a.message or '')[:500]}" for a in job.attempts]
    skipped = [f"skipped {route.provider}: {route.reason}" for route in routes]
    left_over = skipped or job.remaining or job.unavailable
    first = "no provider is left. " if left_over else "every provider was tried. "
    return (first + "; ".join([*tried, *skipped]))[:4000]
