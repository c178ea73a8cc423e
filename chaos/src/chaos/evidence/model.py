"""What is known of a run from four sides: what clients were told, what was billed, what events and tables say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

CallKind = Literal["post", "repeat", "conflict", "cancel", "page", "job", "artifact"]


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """One answer that a client got, or None for one that never came."""

    at: float
    """Seconds of the epoch."""
    token: str
    call: CallKind
    status: int | None
    job_id: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    """Of `post`: what was asked for, beside the answer; of `artifact`: what was received, measured."""


@dataclass(frozen=True, slots=True)
class Event:
    """One record of segue.requests, segue.attempts or segue.jobs."""

    topic: str
    partition: int
    offset: int
    type: str
    """In short: `attempt.failed`."""
    event_id: str
    job_id: str
    at: datetime
    data: Mapping[str, Any]

    @property
    def attempt_id(self) -> str | None:
        """The attempt it is about, if it is about one."""
        found = self.data.get("attempt_id") if self.type.startswith("attempt.") else None
        return None if found is None else str(found)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter: who buried what, and why."""

    service: str
    topic: str
    key: str
    error: str


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows of the read model and of the ledgers, each as a mapping of its columns."""

    jobs: Sequence[Mapping[str, Any]] = ()
    attempts: Sequence[Mapping[str, Any]] = ()
    artifacts: Sequence[Mapping[str, Any]] = ()
    log: Sequence[Mapping[str, Any]] = ()
    """Of the job log: event_id, type, job_id, attempt_id."""
    ledger: Sequence[Mapping[str, Any]] = ()
    """Both adapters' own: provider, attempt_id, job_id, state, version, provider_ref."""
    ordered: Sequence[Mapping[str, Any]] = ()
    """What the orchestrator ordered: attempt_id, job_id, provider, live."""
    decided: Sequence[Mapping[str, Any]] = ()
    """The orchestrator's jobs: job_id, state, version."""
    unfinished: Sequence[str] = ()
    """What is left to do although all is quiet, in words."""
    next_offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """How far the log-sink has read each partition."""


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which something was wrong, and with what. Times are seconds of the epoch."""

    fault: str
    began: float
    ended: float
    explains: frozenset[str] = frozenset()
    """The failure kinds that follow from it."""
    provider: str | None = None
    """Whom it concerned; None: both."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it. `bills` are the entries of the book as the sandbox writes them."""

    answers: Sequence[ClientAnswer]
    bills: Sequence[Mapping[str, Any]]
    events: Sequence[Event]
    tables: Tables
    ends: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """The end of each partition that the log-sink reads."""
    dead_letters: Sequence[DeadLetter] = ()
    windows: Sequence[Window] = ()
