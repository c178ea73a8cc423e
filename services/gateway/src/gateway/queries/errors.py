"""The exceptions of the queries."""

from __future__ import annotations


class NotFound(Exception):
    """There is no such resource, or it belongs to another tenant."""

    def __init__(self, kind: str, identifier: str) -> None:
        """`kind` is the kind of resource: job, track, attempt or artifact."""
        super().__init__(f"there is no {kind} {identifier}")
        self.kind = kind
        self.identifier = identifier


class ReadModelUnavailable(Exception):
    """PostgreSQL does not answer within the request's time budget, so whether the resource exists is not known."""

    def __init__(self, subject: str) -> None:
        """`subject` names what was to be read, such as "this job"; it is a part of the error message."""
        super().__init__(f"{subject} cannot be read")
        self.subject = subject


class TailBehind(Exception):
    """PostgreSQL has no such resource, and the tail does not reach the end of Kafka's topics in time.

    The resource may have been created a moment ago on another replica.
    """

    def __init__(self, kind: str, identifier: str) -> None:
        """`kind` is the kind of resource: job or track."""
        super().__init__(f"whether there is a {kind} {identifier} is not known")
        self.kind = kind
        self.identifier = identifier
