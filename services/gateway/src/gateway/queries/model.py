"""Jobs, attempts, tracks and log lines, made from rows of the read model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.failures import FailureKind
from contracts.generation import Provider
from contracts.ids import AttemptId, JobId, attempt_id_for
from contracts.messages.attempts import Artifact, AttemptState
from contracts.messages.jobs import AttemptOutcome, CancelEffect, JobStatus
from contracts.messages.requests import LONGEST_DEADLINE_S

FINAL: Final[frozenset[JobStatus]] = frozenset({"succeeded", "failed", "cancelled"})
FINAL_ATTEMPT: Final[frozenset[AttemptState]] = frozenset({"succeeded", "failed", "cancelled"})


class StoredArtifact(Artifact):
    """A file in the artifact store, with its retention."""

    expired_at: datetime | None = None
    """When it was deleted; None while it is kept."""
    kept_days: float | None = None
    """The retention period in days by which it was deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of a job at one provider."""

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
    """Whether it changed after it had ended. The job's result is that of its first end."""
    late_artifacts: tuple[StoredArtifact, ...] = ()
    """Its files that are not the job's result."""
    resolve_by: datetime | None = None
    """The resolution deadline of an ambiguous submit."""
    submitting_at: datetime | None = None
    submitted_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def code(self) -> str | None:
        """The provider's error code; if it gave none, Segue's kind of failure."""
        return self.error_code or self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job; `version` is the number of its last event from the orchestrator, 0 before the first."""

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
    """The id of the attempt that made the artifacts; a part of their keys in the store."""
    cost_usd: float | None = None
    """The cost of all attempts, as known when the job ended."""
    error_kind: str | None = None
    error_message: str | None = None
    outcomes: tuple[AttemptOutcome, ...] = ()
    """Why each attempt did not succeed, as known when the job failed."""
    cancel_asked_at: datetime | None = None
    cancel_effect: CancelEffect | None = None
    """The effect of the cancellation, if it ended the job."""
    metadata: dict[str, str] | None = None
    fingerprint: str | None = None
    trace_id: str | None = None

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self.status in FINAL

    @property
    def total_cost_usd(self) -> float | None:
        """The cost of all attempts, as known now; None if there are none or if the cost of one is not known."""
        # What became known after the job's end is in its attempts only.
        if self.cost_usd is not None and not any(attempt.late for attempt in self.attempts):
            return self.cost_usd
        known = [attempt.cost_usd for attempt in self.attempts if attempt.cost_usd is not None]
        return sum(known) if known and len(known) == len(self.attempts) else None

    def attempt_id(self, attempt: Attempt) -> AttemptId:
        """The id of one of its attempts."""
        return attempt_id_for(JobId(self.job_id), attempt.n)

    @property
    def never_run(self) -> bool:
        """Whether the request expired before anything was sent to a provider."""
        # The rows of the attempts may arrive after the end of the job, which names them.
        return self.error_kind == FailureKind.EXPIRED and not self.attempts and not self.outcomes

    def runs_again(self, now: datetime, keep_rows: timedelta) -> bool:
        """Whether a repeat of the request that is published now runs the job: it never ran, and is not too old.

        Rows of the orchestrator are kept for `keep_rows` after the end of their job. Without the row, it would number
        the events of the job from 1 again, and the read model would keep the old end while the job runs.
        """
        # The orchestrator reads the repeat before its deadline, or does not run it.
        kept_until = (self.finished_at or now) + keep_rows - timedelta(seconds=LONGEST_DEADLINE_S)
        return self.never_run and now < kept_until


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event of a job or of one of its attempts."""

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
    """The number of the event among those of the job or of the attempt; None for requests of clients and operators."""
    provider_ref: str | None = None
    late: bool = False
    """Whether the attempt had ended before."""
    answers_to: int | None = None
    """For an event of the job, the number of the attempt whose end led to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOfJob:
    """An attempt with the data of its job that an operator needs."""

    attempt_id: AttemptId
    job_id: str
    track_id: str
    model: str
    attempt: Attempt
    first_at: datetime
    ambiguous: bool
    """Whether it is not known if the provider accepted the submit; it may stay so after the attempt has ended."""
    job_status: JobStatus
    deadline_at: datetime | None
    input: Mapping[str, object]
    """The input of the client's request; empty until the request has arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """The music of a job; `provider` and the fields of the file are None until it is made."""

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
    """When its file was deleted; None while it is kept."""
    finished_at: datetime | None = None
