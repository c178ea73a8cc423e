"""What happened to attempts: the messages of segue.attempts."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.failures import FailureKind
from contracts.generation import Provider
from contracts.ids import AttemptId
from contracts.messages.base import AttemptIdField, Items, Message, Timestamp, TrackIdField, require_own_attempt

AttemptState = Literal[
    "queued", "submitting", "running", "collecting", "cancelling", "ambiguous", "succeeded", "failed", "cancelled"
]


class Artifact(BaseModel):
    """One file a job made, in Segue's own store."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$", description="Its name within the job.")
    content_type: str = Field(max_length=100)
    size_bytes: int = Field(ge=0, le=2**63 - 1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    duration_s: float | None = Field(default=None, ge=0, description="Audio: its length as measured.")
    width: int | None = Field(default=None, ge=1, le=2**31 - 1, description="Image: pixels.")
    height: int | None = Field(default=None, ge=1, le=2**31 - 1, description="Image: pixels.")


class AttemptEvent(Message):
    """Something that happened to one attempt; `version` counts the attempt's events from 1."""

    attempt_id: AttemptIdField
    track_id: TrackIdField
    n: int = Field(ge=1, le=9999)
    provider: Provider
    model: str = Field(max_length=200)
    endpoint: str = Field(max_length=200)
    version: int = Field(ge=1, le=2**31 - 1, description="Grows with every event of the attempt.")
    provider_ref: str | None = Field(default=None, max_length=300, description="The provider's id for the run.")

    @model_validator(mode="after")
    def _is_of_its_job(self) -> Self:
        require_own_attempt(self)
        return self

    @property
    def subject(self) -> AttemptId:
        """What the message is about."""
        return self.attempt_id

    @property
    def revision(self) -> int:
        """The subject's version."""
        return self.version


class AttemptSubmitting(AttemptEvent):
    """The intent to POST is committed; the one POST follows."""

    TYPE: ClassVar[str] = "segue.attempt.submitting.v1"


class AttemptSubmitted(AttemptEvent):
    """The provider accepted the run: from now on it may cost money."""

    TYPE: ClassVar[str] = "segue.attempt.submitted.v1"


class AttemptProgressed(AttemptEvent):
    """The run moved on without ending."""

    TYPE: ClassVar[str] = "segue.attempt.progressed.v1"

    stage: Literal["throttled", "unreachable", "queued", "running", "collecting", "stored"]
    queue_position: int | None = Field(default=None, ge=0, le=2**31 - 1)
    message: str | None = Field(default=None, max_length=2000)


class AttemptAmbiguous(AttemptEvent):
    """Whether the provider accepted the POST is not known; it is never sent again."""

    TYPE: ClassVar[str] = "segue.attempt.ambiguous.v1"

    message: str = Field(max_length=2000)
    resolve_by: Timestamp = Field(description="When silence becomes an answer.")


class AttemptSucceeded(AttemptEvent):
    """The outputs are in Segue's store."""

    TYPE: ClassVar[str] = "segue.attempt.succeeded.v1"

    artifacts: Items[Artifact] = Field(min_length=1)
    cost_usd: float | None = Field(default=None, ge=0, description="What the run is expected to have cost.")
    missing: str | None = Field(
        default=None,
        max_length=2000,
        description="Which of the run's outputs could not be had, and why, where only some could.",
    )
    late: bool = Field(default=False, description="It had ended before, on less evidence; its job is not changed.")


class AttemptFailed(AttemptEvent):
    """The attempt ended without a result."""

    TYPE: ClassVar[str] = "segue.attempt.failed.v1"

    kind: FailureKind
    error_code: str | None = Field(default=None, max_length=200, description="The provider's own code.")
    message: str = Field(max_length=2000, description="The provider's own words.")
    http_status: int | None = Field(default=None, ge=100, le=599)
    retry_at: Timestamp | None = Field(
        default=None, description="When the provider may be asked again, where it was not asked at all."
    )
    accepted: bool = Field(description="Whether the provider had accepted the run, so that it may have been billed.")
    cost_usd: float | None = Field(default=None, ge=0)
    late: bool = Field(default=False, description="It had ended before, on less evidence; its job is not changed.")

    @property
    def known_cost_usd(self) -> float | None:
        """What it cost; None if nobody knows. What no provider can have accepted cost nothing."""
        perhaps_billed = self.accepted or self.kind is FailureKind.AMBIGUOUS_SUBMISSION
        return 0.0 if self.cost_usd is None and not perhaps_billed else self.cost_usd


class AttemptCancelled(AttemptEvent):
    """The attempt was stopped on request, and the provider confirmed it."""

    TYPE: ClassVar[str] = "segue.attempt.cancelled.v1"

    may_have_cost: bool = Field(description="False: never sent, or stopped before it started.")
    message: str | None = Field(default=None, max_length=2000)
    late: bool = Field(default=False, description="It had ended before, on less evidence; its job is not changed.")
