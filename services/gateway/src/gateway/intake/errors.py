"""The exceptions for requests that do not become a job, or may not have become one."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.messages.jobs import SkippedRoute


class InvalidIdempotencyKey(Exception):
    """The Idempotency-Key is invalid; the message contains the reason."""


class IdempotencyKeyReused(Exception):
    """The Idempotency-Key was first used for a request with another body."""


class ModelNotFound(Exception):
    """The catalogue has no such model for the request; the message lists the models."""

    def __init__(self, model: str | None, reason: str) -> None:
        super().__init__(reason)
        self.model = model


class NoRoute(Exception):
    """No route of the catalogue can serve the request."""

    def __init__(self, skipped: Sequence[SkippedRoute]) -> None:
        """`skipped` are the routes that were considered, each with the reason against it."""
        super().__init__("no route can serve the request")
        self.skipped = skipped


class JobUnreadable(Exception):
    """The request's job exists, and PostgreSQL does not return it; nothing was published."""

    def __init__(self, key: str) -> None:
        """`key` is the Idempotency-Key with which to repeat the request."""
        super().__init__("the job exists and cannot be read")
        self.key = key


class NotConfirmed(Exception):
    """Kafka did not confirm the message in time; Kafka may have stored it nevertheless."""

    def __init__(self, key: str | None) -> None:
        """`key` is the Idempotency-Key that makes a repeat safe; None if a repeat is safe without one."""
        super().__init__("Kafka did not confirm the message in time")
        self.key = key


class ArrivedTooLate(Exception):
    """Kafka stored the request after its acceptance deadline, by Kafka's clock; it will not be run."""

    def __init__(self, key: str | None) -> None:
        """`key` is the Idempotency-Key with which to repeat the request."""
        super().__init__("the request arrived after its acceptance deadline")
        self.key = key
