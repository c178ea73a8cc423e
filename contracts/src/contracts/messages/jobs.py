"""The events of jobs: the messages of segue.jobs, which are also meant for consumers outside of Segue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.failures import FailureKind
from contracts.generation import Provider
from contracts.messages.attempts import Artifact
from contracts.messages.base import (
    AttemptIdField,
    Items,
    Message,
    Timestamp,
    TrackIdField,
    require_attempts_of,
    require_own_attempt,
)
from contracts.modalities.fields import Text

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]

CancelEffect = Literal["never_sent", "cancelled_free", "may_have_cost"]
"""The effect of a cancel: before anything was sent, before the run cost anything, or when it may have cost."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class PlannedRoute(_Part):
    """A provider that the job may go to."""

    provider: Provider
    model: str
    endpoint: str
    substitute: bool = Field(default=False, description="It runs another model, similar to the requested one.")


class SkippedRoute(_Part):
    """A provider that the job does not go to, or not now, and why."""

    provider: Provider
    model: str
    endpoint: str
    reason: str = Field(max_length=500)


class AttemptOutcome(_Part):
    """The outcome of one attempt, as recorded in its job."""

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
    """The number of a job's last attempt, from 1; None if there is none or if its end is not known."""
    return attempts[-1].n if attempts and attempts[-1].outcome != "live" else None


class JobEvent(Message):
    """An event of a job; `version` counts the job's events from 1."""

    track_id: TrackIdField
    tenant: Text = Field(max_length=200)
    version: int = Field(ge=1, le=2**31 - 1)
    status: JobStatus

    @property
    def revision(self) -> int:
        """The job's version."""
        return self.version


class JobAccepted(JobEvent):
    """The orchestrator accepted the job and planned its routes."""

    TYPE: ClassVar[str] = "segue.job.accepted.v1"

    plan: Items[PlannedRoute]
    skipped: Items[SkippedRoute] = ()
    because: str | None = Field(default=None, max_length=1000, description="Why the plan has this order.")
    deadline_at: Timestamp


class _OfAttempt(JobEvent):
    attempt_id: AttemptIdField
    provider: Provider

    _attempt_matches_job = model_validator(mode="after")(require_own_attempt)


class JobStarted(_OfAttempt):
    """The first provider accepted the job's run."""

    TYPE: ClassVar[str] = "segue.job.started.v1"
    AWAITED: ClassVar[bool] = False


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
    skipped: Items[SkippedRoute] = Field(default=(), description="Providers that were skipped meanwhile, and why.")
    cost_usd: float | None = Field(default=None, ge=0, description="The cost of the failed attempt.")
    price_usd: float | None = Field(default=None, ge=0, description="The expected cost of the next run.")

    @model_validator(mode="after")
    def _attempts_match_job(self) -> Self:
        require_attempts_of(self.job_id, from_attempt_id=self.from_attempt_id, to_attempt_id=self.to_attempt_id)
        return self


class JobSucceeded(_OfAttempt):
    """The job's outputs are in the artifact store."""

    TYPE: ClassVar[str] = "segue.job.succeeded.v1"

    model: str
    artifacts: Items[Artifact] = Field(min_length=1)
    cost_usd: float | None = Field(default=None, ge=0, description="All attempts together, failed ones too.")


E = TypeVar("E", "JobFailed", "JobCancelled")


def _require_own_outcomes(message: E) -> E:
    """The message, as a validator returns it. Raises ValueError if one of its attempts does not belong to its job."""
    for each in message.attempts:
        require_attempts_of(message.job_id, attempt_id=each.attempt_id)
    return message


class JobFailed(JobEvent):
    """The job ended without a result; `attempts` has the reason of each attempt."""

    TYPE: ClassVar[str] = "segue.job.failed.v1"

    kind: FailureKind
    message: str = Field(max_length=4000)
    attempts: Items[AttemptOutcome] = ()
    cost_usd: float | None = Field(
        default=None, ge=0, description="All attempts together; null if there are none or if one is not known."
    )

    _attempts_match_job = model_validator(mode="after")(_require_own_outcomes)


class JobCancelled(JobEvent):
    """The job was cancelled by its client."""

    TYPE: ClassVar[str] = "segue.job.cancelled.v1"

    effect: CancelEffect
    attempts: Items[AttemptOutcome] = ()

    _attempts_match_job = model_validator(mode="after")(_require_own_outcomes)

    @property
    def cost_usd(self) -> float | None:
        """The cost of all attempts in USD; None if one of them is not known."""
        costs = [attempt.cost_usd for attempt in self.attempts]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None
