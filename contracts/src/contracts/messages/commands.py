"""The orchestrator's commands to an adapter: the messages of segue.commands.<provider>."""

from __future__ import annotations

from typing import ClassVar, Literal
from zlib import crc32

from pydantic import Field, JsonValue, model_validator

from contracts.generation import PROVIDER_REF, AmbiguityPolicy, LostOutputPolicy, Modality, Provider
from contracts.ids import AttemptId
from contracts.messages.base import AttemptIdField, Message, Timestamp, TrackIdField, require_own_attempt


class _Command(Message):
    attempt_id: AttemptIdField
    provider: Provider

    _attempt_matches_job = model_validator(mode="after")(require_own_attempt)

    @property
    def subject(self) -> AttemptId:
        """The attempt's id."""
        return self.attempt_id


class RunAttempt(_Command):
    """Submit one run to the provider, at most once, and follow it to its end."""

    TYPE: ClassVar[str] = "segue.attempt.run.v1"

    track_id: TrackIdField
    n: int = Field(ge=1, le=9999, description="The number of the attempt within the job.")
    model: str = Field(max_length=200, description="The catalogue's name of the model.")
    endpoint: str = Field(max_length=200, description="The provider's name of the endpoint.")
    arguments: dict[str, JsonValue] = Field(description="The provider's input, as it is sent.")
    modality: Modality
    start_within_s: float = Field(gt=1, le=86_400, description="The provider has to start the run within this time.")
    run_within_s: float = Field(gt=0, le=86_400, description="The longest run that the route declares.")
    price_usd: float | None = Field(default=None, ge=0, description="What a successful run is expected to cost.")
    deadline_at: Timestamp = Field(description="The job's deadline: nothing is submitted after it.")
    ambiguity_policy: AmbiguityPolicy = Field(
        default="hold", description="hold: if the answer to the submit is lost, wait for evidence up to the deadline."
    )
    lost_output_policy: LostOutputPolicy = Field(
        default="retry_elsewhere",
        description="fail: fetching its output is retried up to the deadline, since no other provider is paid.",
    )


class CancelAttempt(_Command):
    """Stop the attempt if it can still be stopped."""

    TYPE: ClassVar[str] = "segue.attempt.cancel.v1"

    reason: Literal["client", "deadline"]


class ResolveAttempt(_Command):
    """Apply an operator's decision on a submit whose answer was lost; `occurred_at`: when it was made."""

    TYPE: ClassVar[str] = "segue.attempt.resolve.v1"

    provider_ref: str | None = Field(
        default=None,
        pattern=PROVIDER_REF,
        description="The provider's id for the run; null: the provider never accepted it.",
    )

    @property
    def revision(self) -> int:
        """Derived from the decision: another decision is another message."""
        return crc32((self.provider_ref or "").encode())


class CollectAttempt(_Command):
    """Fetch the output of a paid run again; `occurred_at`: when an operator asked for it."""

    TYPE: ClassVar[str] = "segue.attempt.collect.v1"

    @property
    def revision(self) -> int:
        """Derived from the time: each request is a command of its own."""
        return crc32(self.occurred_at.isoformat().encode())
