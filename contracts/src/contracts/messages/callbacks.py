"""The callbacks of providers: the messages of segue.callbacks."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID, uuid5

from pydantic import Field, model_validator

from contracts.generation import Provider
from contracts.ids import EVENT_NAMESPACE, AttemptId
from contracts.messages.base import AttemptIdField, Message, require_own_attempt


class CallbackReceived(Message):
    """A provider's callback, verified by the gateway, with its body as received."""

    TYPE: ClassVar[str] = "segue.callback.received.v1"

    attempt_id: AttemptIdField
    provider: Provider
    delivery_id: str = Field(max_length=300, description="The provider's id for this delivery.")
    body: str = Field(max_length=1_000_000, description="The raw body.")

    _attempt_matches_job = model_validator(mode="after")(require_own_attempt)

    @property
    def subject(self) -> AttemptId:
        """The attempt's id."""
        return self.attempt_id

    @property
    def event_id(self) -> UUID:
        """The id of the message; a repeat of the delivery has the same one."""
        return uuid5(EVENT_NAMESPACE, f"{self.attempt_id}|{self.TYPE}|{self.delivery_id}")
