"""Why a request does not become a job, or why that is not known."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.messages.jobs import SkippedRoute


class InvalidIdempotencyKey(Exception):
    """The Idempotency-Key cannot be used; the message says why."""


class IdempotencyKeyReused(Exception):
    """The Idempotency-Key was first used for another request."""


class ModelNotFound(Exception):
    """The catalogue has no such model for what is asked; the message says which there are."""

    def __init__(self, model: str | None, reason: str) -> None:
        super().__init__(reason)
        self.model = model


class NoRoute(Exception):
    """No provider can do what is asked."""

    def __init__(self, skipped: Sequence[SkippedRoute]) -> None:
        """`skipped` are the routes that were considered, each with what speaks against it."""
        super().__init__("no provider can do what is asked")
        self.skipped = skipped


class NotConfirmed(Exception):
    """Kafka did not confirm the message in time; it may still have been taken."""

    def __init__(self, key: str | None) -> None:
        """`key` is the Idempotency-Key that makes a repeat safe; None where any repeat is."""
        super().__init__("Kafka did not confirm the message in time")
        self.key = key


class ArrivedTooLate(Exception):
    """The request is in the log, after its acceptance deadline by Kafka's clock: it will not be run."""

    def __init__(self, key: str | None) -> None:
        """`key` is the Idempotency-Key to repeat it with."""
        super().__init__("the request arrived after its acceptance deadline")
        self.key = key
