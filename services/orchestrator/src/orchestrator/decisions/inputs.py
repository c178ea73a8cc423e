"""The inputs of `decide`: what can happen to a job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from contracts.messages.attempts import AttemptEvent
from contracts.messages.jobs import SkippedRoute
from contracts.messages.requests import CollectionRequested, JobRequested, ResolutionRequested
from orchestrator.decisions.job import Candidate


@dataclass(frozen=True, slots=True)
class Requested:
    """A client asked for the job."""

    request: JobRequested
    candidates: tuple[Candidate, ...]
    skipped: tuple[SkippedRoute, ...]
    problem: str | None
    """Why there is no plan at all, in words."""
    arrived_at: datetime
    """When the request reached the log."""
    because: str | None = None
    """Why the candidates are in this order, in words."""
    max_cost_usd: float | None = None


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


@dataclass(frozen=True, slots=True)
class Ruled:
    """An operator says what became of the lost submit of one of the job's attempts."""

    verdict: ResolutionRequested


@dataclass(frozen=True, slots=True)
class CollectAsked:
    """An operator wants the output of one of the job's attempts fetched again."""

    request: CollectionRequested


Input = Requested | CancelAsked | Attempted | Due | Ruled | CollectAsked
