"""The job as the orchestrator sees it."""

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
    """One provider the job may go to, with the request in that provider's terms."""

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
    """Everything the orchestrator knows about one job. Times are aware; money is USD."""

    job_id: JobId
    track_id: TrackId
    tenant: str
    fingerprint: str
    deadline_at: datetime
    created_at: datetime
    ambiguity_policy: AmbiguityPolicy = "hold"
    lost_output_policy: LostOutputPolicy = "retry_elsewhere"
    candidates: tuple[Candidate, ...] = ()
    """Where it may go, in order."""
    remaining: tuple[int, ...] = ()
    """Which candidates are still to be tried, by their place in `candidates`."""
    unavailable: tuple[int, ...] = ()
    """Which candidates were passed over because their provider was unavailable; they may be tried again later."""
    current: int = 0
    """Where the last attempt went."""
    retry_at: datetime | None = None
    """When the first of the unavailable providers may be asked again."""
    skipped: tuple[SkippedRoute, ...] = ()
    """Where it may not go, and why."""
    unreported: tuple[SkippedRoute, ...] = ()
    """Those of them that were skipped since the job last said where it goes."""
    max_cost_usd: float | None = None
    """The most that its attempts may cost together."""
    state: JobStatus = "queued"
    version: int = 0
    """How many events the job has had."""
    next_action_at: datetime | None = None
    attempts: tuple[AttemptOutcome, ...] = ()
    """Its attempts, without the earlier refusals of a provider that is still unavailable; only the last may be live."""
    ordered: int = 0
    """How many attempts it has had."""
    cancel_requested: bool = False
    kind: FailureKind | None = None
    """Why it failed, where it did."""

    @property
    def final(self) -> bool:
        """Whether it is over."""
        return self.state in FINAL

    @property
    def candidate(self) -> Candidate:
        """Where the last attempt went."""
        return self.candidates[self.current]

    @property
    def live_attempt(self) -> AttemptOutcome | None:
        """The attempt that is under way."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.outcome == "live" else None

    @property
    def cost_usd(self) -> float | None:
        """What its attempts have cost, failed ones too; None unless that is known of each."""
        costs = [attempt.cost_usd for attempt in self.attempts if attempt.outcome != "live"]
        known = [cost for cost in costs if cost is not None]
        return round(sum(known), 6) if known and len(known) == len(costs) else None


def candidate_of(route: Route, given: GenerationInput) -> Candidate:
    """The route with the request in its provider's terms."""
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
