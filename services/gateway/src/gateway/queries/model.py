"""Jobs, attempts and tracks as the gateway answers them, made from rows of the read model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts.failures import FailureKind
from contracts.generation import Provider
from contracts.ids import AttemptId, JobId, attempt_id_for
from contracts.messages.attempts import Artifact, AttemptState
from contracts.messages.jobs import AttemptOutcome, CancelEffect, JobStatus

FINAL: Final[frozenset[JobStatus]] = frozenset({"succeeded", "failed", "cancelled"})
FINAL_ATTEMPT: Final[frozenset[AttemptState]] = frozenset({"succeeded", "failed", "cancelled"})


class StoredArtifact(Artifact):
    """A file as the read model has it."""

    expired_at: datetime | None = None
    """When it was deleted; None: it is kept."""
    kept_days: float | None = None
    """The rule by which it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at one provider."""

    n: int
    provider: Provider
    state: AttemptState
    endpoint: str | None = None
    provider_ref: str | None = None
    queue_position: int | None = None
    kind: str | None = None
    error_code: str | None = None
    http_status: int | None = None
    message: str | None = None
    cost_usd: float | None = None
    late: bool = False
    """It said more after it had ended; the job goes by what it had said first."""
    late_artifacts: tuple[StoredArtifact, ...] = ()
    """Files it made that are not the job's result."""
    resolve_by: datetime | None = None
    """When silence about a lost submit becomes an answer."""
    submitting_at: datetime | None = None
    submitted_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def code(self) -> str | None:
        """The provider's own code; where it gave none, what Segue calls the error."""
        return self.error_code or self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job; `version` grows with each thing that the orchestrator says of it, 0 before it said anything."""

    job_id: str
    track_id: str
    tenant: str
    status: JobStatus
    version: int
    requested_at: datetime
    model: str | None = None
    provider: Provider | None = None
    deadline_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    artifacts: tuple[StoredArtifact, ...] = ()
    artifacts_of: str | None = None
    """The attempt whose folder in the store the artifacts lie in."""
    cost_usd: float | None = None
    """What all attempts cost, as it was known when the job ended."""
    error_kind: str | None = None
    error_message: str | None = None
    outcomes: tuple[AttemptOutcome, ...] = ()
    """Why each attempt was no success, as it was known when the job failed."""
    cancel_asked_at: datetime | None = None
    cancel_effect: CancelEffect | None = None
    """What came of that, where it stopped the job."""
    metadata: dict[str, str] | None = None
    fingerprint: str | None = None
    trace_id: str | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in FINAL

    @property
    def total_cost_usd(self) -> float | None:
        """What all attempts cost, as it is known by now; None unless that is known of each."""
        if not any(attempt.late for attempt in self.attempts):
            return self.cost_usd
        costs = [attempt.cost_usd for attempt in self.attempts]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    def attempt_id(self, attempt: Attempt) -> AttemptId:
        """The id of one of its attempts."""
        return attempt_id_for(JobId(self.job_id), attempt.n)

    @property
    def never_run(self) -> bool:
        """Whether it came too late for anything to be sent: then a repeat of the request is what runs it."""
        return self.error_kind == FailureKind.EXPIRED and not self.attempts


@dataclass(frozen=True, slots=True)
class LogLine:
    """One thing that happened to a job or to one of its attempts."""

    event_id: str
    time: datetime
    event: str
    provider: Provider | None = None
    attempt: int | None = None
    error_kind: str | None = None
    error_code: str | None = None
    http_status: int | None = None
    message: str | None = None
    version: int | None = None
    """Which of the job's or the attempt's events it is; None for what others asked for."""
    provider_ref: str | None = None
    late: bool = False
    """The attempt had ended before."""
    answers_to: int | None = None
    """Of an event of the job: the attempt whose end it follows from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOfJob:
    """An attempt with what an operator needs to know of its job."""

    attempt_id: AttemptId
    job_id: str
    track_id: str
    model: str
    attempt: Attempt
    first_at: datetime
    ambiguous: bool
    """Nobody knows whether its provider accepted it: not yet, or not to this day."""
    job_status: JobStatus
    deadline_at: datetime | None
    input: Mapping[str, object]
    """What its client asked for; empty where that is not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """The music a job makes; who made it and the file are known once it is made."""

    track_id: str
    job_id: str
    status: JobStatus
    created_at: datetime
    modality: str | None = None
    provider: Provider | None = None
    model: str | None = None
    artifact_name: str | None = None
    duration_s: float | None = None
    expired_at: datetime | None = None
    """When its file was deleted; None: it is kept."""
    finished_at: datetime | None = None
