"""The state of a job in the orchestrator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from contracts.catalogue import Route
from contracts.failures import FailureKind
from contracts.generation import AmbiguityPolicy, GenerationInput, LostOutputPolicy, Modality, Provider
from contracts.ids import JobId, TrackId
from contracts.messages.jobs import AttemptOutcome, JobStatus, SkippedRoute

FINAL: Final[frozenset[JobStatus]] = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """One route that the job may take, with the arguments for its provider."""

    provider: Provider
    model: str
    endpoint: str
    substitute: bool
    modality: Modality
    arguments: Mapping[str, JsonValue]
    start_within_s: float
    run_within_s: float
    price_usd: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """The state of one job. Times are aware, amounts are in USD. The fields' names are those of the stored JSON."""

    job_id: JobId
    track_id: TrackId
    tenant: str
    fingerprint: str
    deadline_at: datetime
    created_at: datetime
    ambiguity_policy: AmbiguityPolicy = "hold"
    lost_output_policy: LostOutputPolicy = "retry_elsewhere"
    candidates: tuple[Candidate, ...] = ()
    """The routes it may take, in the order of the plan."""
    remaining: tuple[int, ...] = ()
    """The candidates still to be tried, as indexes into `candidates`."""
    unavailable: tuple[int, ...] = ()
    """The candidates whose provider was not reached or not asked, as indexes; they may be retried later."""
    current: int = 0
    """The candidate of the last attempt, as an index."""
    retry_at: datetime | None = None
    """When the first of the unavailable candidates may be retried."""
    skipped: tuple[SkippedRoute, ...] = ()
    """The routes it does not take, and why."""
    unreported: tuple[SkippedRoute, ...] = ()
    """The skipped routes that no event has reported yet."""
    max_cost_usd: float | None = None
    """The maximum cost of all its attempts together."""
    state: JobStatus = "queued"
    version: int = 0
    """The number of events about the job."""
    next_action_at: datetime | None = None
    attempts: tuple[AttemptOutcome, ...] = ()
    """Its attempts; of those that did not reach a provider, one for each provider. Only the last may be live."""
    ordered: int = 0
    """The number of attempts ordered so far."""
    accepted: int = 0
    """The number of the last attempt that its provider is known to have accepted, from 1; 0 if there is none."""
    cancel_requested: bool = False
    planned: bool = False
    """Whether an event has reported its plan: a request was accepted. False if an earlier release stored the job."""
    revived_at: datetime | None = None
    """When the gateway took the request that revived an expired job; None if the first request is the job."""
    kind: FailureKind | None = None
    """The kind of failure, if the job has failed."""

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL

    @property
    def candidate(self) -> Candidate:
        """The candidate of the last attempt."""
        return self.candidates[self.current]

    @property
    def live_attempt(self) -> AttemptOutcome | None:
        """The last attempt, if it has not ended."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.outcome == "live" else None

    @property
    def cost_usd(self) -> float | None:
        """The cost of all attempts together; None if there are none or if one of the costs is not known."""
        costs = [attempt.cost_usd for attempt in self.attempts]
        known = [cost for cost in costs if cost is not None]
        return round(sum(known), 6) if known and len(known) == len(costs) else None


def candidate_of(route: Route, given: GenerationInput) -> Candidate:
    """The candidate for a route, with the arguments that the input gives."""
    return Candidate(
        provider=route.provider,
        model=route.model,
        endpoint=route.endpoint,
        substitute=route.substitute,
        modality=given.modality,
        arguments=route.arguments(given),
        start_within_s=route.start_within_s,
        run_within_s=route.longest_run_s,
        price_usd=route.expected_cost_usd(given),
    )
