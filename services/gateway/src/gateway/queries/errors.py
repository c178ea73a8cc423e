"""What the queries raise where they have no answer."""

from __future__ import annotations


class NotFound(Exception):
    """There is no such thing, or it belongs to another tenant."""

    def __init__(self, kind: str, identifier: str) -> None:
        """`kind` is what was looked for: a job, a track, an attempt or an artifact."""
        super().__init__(f"there is no {kind} {identifier}")
        self.kind = kind
        self.identifier = identifier


class ReadModelUnavailable(Exception):
    """PostgreSQL does not answer within the request's time; nothing follows about what it would have said."""

    def __init__(self, subject: str) -> None:
        """`subject` is what was to be read, as the object of a sentence: "this job"."""
        super().__init__(f"{subject} cannot be read")
        self.subject = subject


class TailBehind(Exception):
    """PostgreSQL has no such thing, and Kafka does not say in time whether one was published a moment ago."""

    def __init__(self, kind: str, identifier: str) -> None:
        """`kind` is what was looked for: a job or a track."""
        super().__init__(f"whether there is a {kind} {identifier} is not known")
        self.kind = kind
        self.identifier = identifier
