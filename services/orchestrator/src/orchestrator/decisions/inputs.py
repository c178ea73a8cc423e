"""The inputs of `decide`: requests, events of attempts, and timers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from contracts.messages.attempts import AttemptEvent
from contracts.messages.jobs import SkippedRoute
from contracts.messages.requests import CollectionRequested, JobRequested, ResolutionRequested
from orchestrator.decisions.job import Candidate


@dataclass(frozen=True, slots=True)
class Requested:
    """A client requested the job. The candidates and the skipped routes are its plan."""

    request: JobRequested
    candidates: tuple[Candidate, ...]
    skipped: tuple[SkippedRoute, ...]
    problem: str | None
    """Why there is no plan; None if there is one."""
    arrived_at: datetime
    """When the request reached Kafka's log."""
    because: str | None = None
    """Why the candidates are in this order."""
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The client requested a cancel."""

    asked_at: datetime
    """When the gateway took the request, by the database's clock."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """An adapter published an event of one of the job's attempts."""

    event: AttemptEvent


@dataclass(frozen=True, slots=True)
class Due:
    """The job's `next_action_at` has been reached."""

    reports_read: bool = True
    """Whether this process has had the time to read the reports that were in Kafka when it started."""


@dataclass(frozen=True, slots=True)
class ResolveAsked:
    """An operator decided whether the submit of one of the job's attempts, whose answer was lost, was accepted."""

    request: ResolutionRequested


@dataclass(frozen=True, slots=True)
class CollectAsked:
    """An operator requested that the output of one of the job's attempts is fetched again."""

    request: CollectionRequested


Input = Requested | CancelAsked | Attempted | Due | ResolveAsked | CollectAsked
