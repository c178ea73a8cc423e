"""What clients asked for: the messages of segue.requests."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from contracts.generation import GenerationInput, Provider, Text
from contracts.message import Message, TrackIdField


class JobRequested(Message):
    """A client asked for a job; published before the client hears 202."""

    TYPE: ClassVar[str] = "segue.job.requested.v1"

    track_id: TrackIdField
    tenant: Text = Field(max_length=200)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the canonical request body.")
    input: GenerationInput
    model: str | None = Field(default=None, max_length=200, description="A catalogue name; unset: the default order.")
    providers: tuple[Provider, ...] | None = Field(
        default=None, min_length=1, description="In the order to try; unset: all."
    )
    accept_by: AwareDatetime = Field(description="Later than this in the log, the job is recorded but never run.")
    deadline_at: AwareDatetime = Field(description="When the job ends, well or not.")
    metadata: dict[Text, Text] = Field(default_factory=dict, description="The client's own, given back as it is.")
    origin: Literal["rest", "kafka"] = "rest"


class CancelRequested(Message):
    """A client wants a job stopped, as far as its provider allows."""

    TYPE: ClassVar[str] = "segue.job.cancel_requested.v1"

    tenant: Text = Field(max_length=200)
    reason: Text | None = Field(default=None, max_length=500)
