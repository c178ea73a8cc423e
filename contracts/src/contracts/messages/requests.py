"""The requests of clients and operators: the messages of segue.requests."""

from __future__ import annotations

from typing import ClassVar, Final, Literal
from zlib import crc32

from pydantic import Field, model_validator

from contracts.generation import PROVIDER_REF, AmbiguityPolicy, GenerationInput, LostOutputPolicy, Provider
from contracts.ids import AttemptId
from contracts.messages.base import AttemptIdField, Items, Message, Timestamp, TrackIdField, require_own_attempt
from contracts.messages.routing import MaxCost, RouteBy, Weights
from contracts.modalities.fields import Text

LONGEST_DEADLINE_S: Final = 86_400
"""The longest time to its deadline that a client may give a job."""


class JobRequested(Message):
    """A client requested a job; published before the client receives 202."""

    TYPE: ClassVar[str] = "segue.job.requested.v1"

    track_id: TrackIdField
    tenant: Text = Field(max_length=200)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the canonical request body.")
    input: GenerationInput
    model: str | None = Field(default=None, max_length=200, description="A catalogue name; unset: the default models.")
    providers: Items[Provider] | None = Field(
        default=None, min_length=1, description="The providers to try, in order; unset: all."
    )
    route_by: RouteBy | None = Field(
        default=None, description="What determines the order of the providers; unset: the policy decides."
    )
    weights: Weights | None = Field(default=None, description="For route_by: weights. Unset: the policy decides.")
    max_cost_usd: MaxCost | None = Field(
        default=None, description="The maximum cost of all attempts together; unset: the policy decides."
    )
    same_model_only: bool | None = Field(
        default=None, description="Exclude routes that run another, similar model; unset: the policy decides."
    )
    accept_by: Timestamp = Field(
        description="A request that reaches the log later, by Kafka's clock, is recorded and never run."
    )
    deadline_at: Timestamp = Field(description="When the job ends at the latest, by the database's clock.")
    ambiguity_policy: AmbiguityPolicy = Field(
        default="hold", description="What to do if it is not known whether a submit was accepted."
    )
    lost_output_policy: LostOutputPolicy = Field(
        default="retry_elsewhere", description="Whether another provider is paid if the output of a paid run is lost."
    )
    metadata: dict[Text, Text] = Field(default_factory=dict, description="The client's own data, returned unchanged.")
    origin: Literal["rest", "kafka"] = "rest"


class CancelRequested(Message):
    """A client requested that a job is stopped, as far as its provider allows."""

    TYPE: ClassVar[str] = "segue.job.cancel_requested.v1"

    tenant: Text = Field(max_length=200)
    reason: Text | None = Field(default=None, max_length=500)


class _OperatorRequest(Message):
    """A request of an operator about one attempt."""

    tenant: Text = Field(max_length=200)
    attempt_id: AttemptIdField
    provider: Provider

    _attempt_matches_job = model_validator(mode="after")(require_own_attempt)

    @property
    def subject(self) -> AttemptId:
        """The attempt's id."""
        return self.attempt_id


class ResolutionRequested(_OperatorRequest):
    """An operator decided, after a look at the provider, whether a submit whose answer was lost was accepted."""

    TYPE: ClassVar[str] = "segue.attempt.resolution_requested.v1"

    provider_ref: str | None = Field(
        default=None,
        pattern=PROVIDER_REF,
        description="The provider's id for the run; null: the provider never accepted it.",
    )

    @property
    def revision(self) -> int:
        """Derived from the decision: another decision is another message."""
        return crc32((self.provider_ref or "").encode())


class CollectionRequested(_OperatorRequest):
    """An operator requested that the output of a paid run is fetched again, after the obstacle was removed."""

    TYPE: ClassVar[str] = "segue.attempt.collection_requested.v1"

    @property
    def revision(self) -> int:
        """Derived from the time: each request is a message of its own."""
        return crc32(self.occurred_at.isoformat().encode())
