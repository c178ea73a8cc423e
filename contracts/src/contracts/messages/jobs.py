"""What became of jobs: the messages of segue.jobs, which other people's consumers read too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.failures import FailureKind
from contracts.generation import Provider
from contracts.messages.attempts import Artifact
from contracts.messages.base import AttemptIdField, Items, Message, Timestamp, TrackIdField
from contracts.modalities.fields import Text

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]

CancelEffect = Literal["never_sent", "cancelled_free", "may_have_cost"]
"""What a cancel came in time for: before anything was sent, before the run cost anything, or while it may have."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class PlannedRoute(_Part):
    """A provider the job may go to, in order."""

    provider: Provider
    model: str
    endpoint: str
    substitute: bool = Field(default=False, description="Another model than the one asked for, near to it.")


class SkippedRoute(_Part):
    """A provider the job will not go to, and why."""

    provider: Provider
    model: str
    endpoint: str
    reason: str = Field(max_length=500)


class AttemptOutcome(_Part):
    """How one attempt ended, as the job remembers it."""

    attempt_id: AttemptIdField
    n: int = Field(ge=1, le=9999)
    provider: Provider
    outcome: Literal["succeeded", "failed", "cancelled", "live"]
    kind: FailureKind | None = None
    error_code: str | None = None
    http_status: int | None = Field(default=None, ge=100, le=599)
    message: str | None = Field(default=None, max_length=2000)
    cost_usd: float | None = None


def ended_last(attempts: Sequence[AttemptOutcome]) -> int | None:
    """Of a job's attempts the last one that has ended, from 1; None where there is none, or nobody heard of its end."""
    return attempts[-1].n if attempts and attempts[-1].outcome != "live" else None


class JobEvent(Message):
    """Something that happened to one job; `version` counts the job's events from 1."""

    track_id: TrackIdField
    tenant: Text = Field(max_length=200)
    version: int = Field(ge=1, le=2**31 - 1)
    status: JobStatus

    @property
    def revision(self) -> int:
        """The subject's version."""
        return self.version


class JobAccepted(JobEvent):
    """The orchestrator took the job and knows where it may go."""

    TYPE: ClassVar[str] = "segue.job.accepted.v1"

    plan: Items[PlannedRoute]
    skipped: Items[SkippedRoute] = ()
    because: str | None = Field(default=None, max_length=1000, description="Why the plan has this order, in words.")
    deadline_at: Timestamp


class JobStarted(JobEvent):
    """The first provider accepted the job's run."""

    TYPE: ClassVar[str] = "segue.job.started.v1"

    attempt_id: AttemptIdField
    provider: Provider


class JobRerouted(JobEvent):
    """The last attempt failed, and the next provider is tried."""

    TYPE: ClassVar[str] = "segue.job.rerouted.v1"

    from_attempt_id: AttemptIdField
    from_provider: Provider
    to_attempt_id: AttemptIdField
    to_provider: Provider
    kind: FailureKind
    error_code: str | None = Field(default=None, max_length=200, description="The provider's own code.")
    message: str = Field(max_length=2000)
    http_status: int | None = Field(default=None, ge=100, le=599)
    skipped: Items[SkippedRoute] = Field(default=(), description="What was passed over on the way, and why.")
    cost_usd: float | None = Field(default=None, ge=0, description="What the attempt that failed has cost.")
    price_usd: float | None = Field(default=None, ge=0, description="What the next run is expected to cost.")


class JobSucceeded(JobEvent):
    """The job's outputs are in the artifact store."""

    TYPE: ClassVar[str] = "segue.job.succeeded.v1"

    attempt_id: AttemptIdField
    provider: Provider
    model: str
    artifacts: Items[Artifact] = Field(min_length=1)
    cost_usd: float | None = Field(default=None, ge=0, description="All attempts together, failed ones too.")


class JobFailed(JobEvent):
    """The job is over without a result; every attempt's reason is with it."""

    TYPE: ClassVar[str] = "segue.job.failed.v1"

    kind: FailureKind
    message: str = Field(max_length=4000)
    attempts: Items[AttemptOutcome] = ()
    cost_usd: float | None = Field(default=None, ge=0)


class JobCancelled(JobEvent):
    """The job was stopped because its client asked for it."""

    TYPE: ClassVar[str] = "segue.job.cancelled.v1"

    effect: CancelEffect
    attempts: Items[AttemptOutcome] = ()

    @property
    def cost_usd(self) -> float | None:
        """What all its attempts cost together; None unless that is known of each."""
        costs = [attempt.cost_usd for attempt in self.attempts]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None
