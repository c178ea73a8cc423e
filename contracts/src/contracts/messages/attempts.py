"""The events of attempts: the messages of segue.attempts."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.failures import FailureKind
from contracts.generation import Provider
from contracts.ids import AttemptId
from contracts.messages.base import AttemptIdField, Items, Message, Timestamp, TrackIdField, require_own_attempt

AttemptState = Literal[
    "queued", "submitting", "running", "collecting", "cancelling", "ambiguous", "succeeded", "failed", "cancelled"
]

_LATE: Final = "The attempt had already ended, on less evidence; its job does not change."


class Artifact(BaseModel):
    """One output file of a job, in Segue's artifact store."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$", description="Its name within the job.")
    content_type: str = Field(max_length=100)
    size_bytes: int = Field(ge=0, le=2**63 - 1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    duration_s: float | None = Field(default=None, ge=0, description="Audio: its length as measured.")
    width: int | None = Field(default=None, ge=1, le=2**31 - 1, description="Image: pixels.")
    height: int | None = Field(default=None, ge=1, le=2**31 - 1, description="Image: pixels.")


class AttemptEvent(Message):
    """An event of an attempt; `version` counts the attempt's events from 1."""

    attempt_id: AttemptIdField
    track_id: TrackIdField
    n: int = Field(ge=1, le=9999)
    provider: Provider
    model: str = Field(max_length=200)
    endpoint: str = Field(max_length=200)
    version: int = Field(ge=1, le=2**31 - 1, description="The number of the event among those of the attempt.")
    provider_ref: str | None = Field(default=None, max_length=300, description="The provider's id for the run.")

    _attempt_matches_job = model_validator(mode="after")(require_own_attempt)

    @property
    def subject(self) -> AttemptId:
        """The attempt's id."""
        return self.attempt_id

    @property
    def revision(self) -> int:
        """The attempt's version."""
        return self.version


class AttemptSubmitting(AttemptEvent):
    """The intent to submit is committed; the only POST follows."""

    TYPE: ClassVar[str] = "segue.attempt.submitting.v1"
    AWAITED: ClassVar[bool] = False


class AttemptSubmitted(AttemptEvent):
    """The provider accepted the run, which may cost money from now on."""

    TYPE: ClassVar[str] = "segue.attempt.submitted.v1"
    AWAITED: ClassVar[bool] = False


class AttemptProgressed(AttemptEvent):
    """The run progressed and has not ended."""

    TYPE: ClassVar[str] = "segue.attempt.progressed.v1"
    AWAITED: ClassVar[bool] = False

    stage: Literal["throttled", "unreachable", "queued", "running", "collecting", "stored"]
    queue_position: int | None = Field(default=None, ge=0, le=2**31 - 1)
    message: str | None = Field(default=None, max_length=2000)
    reason: str | None = Field(
        default=None,
        max_length=50,
        description="If a step after payment failed and is tried again: why, in one word. `message` says more.",
    )
    retry_at: Timestamp | None = Field(default=None, description="When the step that failed is tried again.")


class AttemptAmbiguous(AttemptEvent):
    """It is not known whether the provider accepted the POST, which is never sent again."""

    TYPE: ClassVar[str] = "segue.attempt.ambiguous.v1"

    message: str = Field(max_length=2000)
    resolve_by: Timestamp = Field(description="If there is no evidence of the run by then, the attempt fails.")


class AttemptSucceeded(AttemptEvent):
    """The outputs are in Segue's artifact store."""

    TYPE: ClassVar[str] = "segue.attempt.succeeded.v1"

    artifacts: Items[Artifact] = Field(min_length=1)
    cost_usd: float | None = Field(default=None, ge=0, description="What the run is expected to have cost.")
    missing: str | None = Field(
        default=None,
        max_length=2000,
        description="Which of the run's outputs could not be fetched, and why, if some could.",
    )
    late: bool = Field(default=False, description=_LATE)


class AttemptFailed(AttemptEvent):
    """The attempt ended without a result."""

    TYPE: ClassVar[str] = "segue.attempt.failed.v1"

    kind: FailureKind
    error_code: str | None = Field(default=None, max_length=200, description="The provider's own code.")
    message: str = Field(max_length=2000, description="The provider's own text.")
    http_status: int | None = Field(default=None, ge=100, le=599)
    retry_at: Timestamp | None = Field(
        default=None, description="When the next attempt may be made, if the provider was unavailable."
    )
    accepted: bool = Field(description="Whether the provider had accepted the run, so that it may have been billed.")
    cost_usd: float | None = Field(default=None, ge=0)
    late: bool = Field(default=False, description=_LATE)

    @property
    def known_cost_usd(self) -> float | None:
        """The cost in USD; None if it is not known. A run that was certainly not accepted cost nothing."""
        may_be_billed = self.accepted or self.kind is FailureKind.AMBIGUOUS_SUBMISSION
        return 0.0 if self.cost_usd is None and not may_be_billed else self.cost_usd


class AttemptCancelled(AttemptEvent):
    """The attempt was stopped on request, and the provider confirmed it."""

    TYPE: ClassVar[str] = "segue.attempt.cancelled.v1"

    may_have_cost: bool = Field(description="False: never sent, or stopped before it started.")
    message: str | None = Field(default=None, max_length=2000)
    late: bool = Field(default=False, description=_LATE)
