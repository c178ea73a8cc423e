"""What clients asked for: the messages of segue.requests."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, Self
from zlib import crc32

from pydantic import Field, model_validator

from contracts.generation import PROVIDER_REF, AmbiguityPolicy, GenerationInput, LostOutputPolicy, Provider
from contracts.ids import AttemptId
from contracts.messages.base import AttemptIdField, Items, Message, Timestamp, TrackIdField, require_own_attempt
from contracts.messages.routing import MaxCost, RouteBy, Weights
from contracts.modalities.fields import Text

LONGEST_DEADLINE_S: Final = 86_400
"""The most time that a client may give a job."""


class JobRequested(Message):
    """A client asked for a job; published before the client hears 202."""

    TYPE: ClassVar[str] = "segue.job.requested.v1"

    track_id: TrackIdField
    tenant: Text = Field(max_length=200)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the canonical request body.")
    input: GenerationInput
    model: str | None = Field(default=None, max_length=200, description="A catalogue name; unset: the default order.")
    providers: Items[Provider] | None = Field(
        default=None, min_length=1, description="In the order to try; unset: all."
    )
    route_by: RouteBy | None = Field(default=None, description="What their order goes by; unset: as the policy says.")
    weights: Weights | None = Field(default=None, description="For route_by: weights. Unset: as the policy says.")
    max_cost_usd: MaxCost | None = Field(
        default=None, description="The most that all attempts may cost together; unset: as the policy says."
    )
    same_model_only: bool | None = Field(
        default=None, description="Never a route on which another model stands in; unset: as the policy says."
    )
    accept_by: Timestamp = Field(
        description="Later than this in the log, by Kafka's clock, the job is recorded but never run."
    )
    deadline_at: Timestamp = Field(description="When the job ends, well or not, by the database's clock.")
    ambiguity_policy: AmbiguityPolicy = Field(
        default="hold", description="What to do when nobody can tell whether a submit was accepted."
    )
    lost_output_policy: LostOutputPolicy = Field(
        default="retry_elsewhere", description="Whether another provider is paid when a paid run's output is lost."
    )
    metadata: dict[Text, Text] = Field(default_factory=dict, description="The client's own, given back as it is.")
    origin: Literal["rest", "kafka"] = "rest"


class CancelRequested(Message):
    """A client wants a job stopped, as far as its provider allows."""

    TYPE: ClassVar[str] = "segue.job.cancel_requested.v1"

    tenant: Text = Field(max_length=200)
    reason: Text | None = Field(default=None, max_length=500)


class _OfOperator(Message):
    """What an operator asks for about one attempt."""

    tenant: Text = Field(max_length=200)
    attempt_id: AttemptIdField
    provider: Provider

    @model_validator(mode="after")
    def _is_of_its_job(self) -> Self:
        require_own_attempt(self)
        return self

    @property
    def subject(self) -> AttemptId:
        """What the message is about."""
        return self.attempt_id


class ResolutionRequested(_OfOperator):
    """An operator looked at the provider, and says what became of a submit whose answer was lost."""

    TYPE: ClassVar[str] = "segue.attempt.resolution_requested.v1"

    provider_ref: str | None = Field(
        default=None,
        pattern=PROVIDER_REF,
        description="The provider's id for the run; null: the provider never accepted it.",
    )

    @property
    def revision(self) -> int:
        """Another verdict is another message."""
        return crc32((self.provider_ref or "").encode())


class CollectionRequested(_OfOperator):
    """An operator wants the output of a paid run fetched again, after what had prevented it is mended."""

    TYPE: ClassVar[str] = "segue.attempt.collection_requested.v1"

    @property
    def revision(self) -> int:
        """Each request is a message of its own."""
        return crc32(self.occurred_at.isoformat().encode())
