"""The evidence of a run from four sources: clients' answers, bills, events and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from chaos.cluster.disturbances import ProcessEnd

CallKind = Literal["post", "repeat", "conflict", "cancel", "page", "job", "artifact"]


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """One answer to a client; its status is None if no answer arrived."""

    at: float
    """Unix time in seconds."""
    token: str
    call: CallKind
    status: int | None
    job_id: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    """For `post`, the request and the answer; for `artifact`, size and digest of the received file."""


@dataclass(frozen=True, slots=True)
class Event:
    """One record of segue.requests, segue.attempts or segue.jobs."""

    topic: str
    partition: int
    offset: int
    type: str
    """The short type, for example `attempt.failed`."""
    event_id: str
    job_id: str
    at: datetime
    data: Mapping[str, Any]

    @property
    def attempt_id(self) -> str | None:
        """The id of its attempt; None if it has none."""
        found = self.data.get("attempt_id") if self.type.startswith("attempt.") else None
        return None if found is None else str(found)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter: the service that published it, the source record's topic and key, and the error."""

    service: str
    topic: str
    key: str
    error: str


@dataclass(frozen=True, slots=True)
class UnexpectedEnd:
    """A process that ended by itself with an error that it does not know, from its log."""

    replica: str
    error: str


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows of the read model and of the ledgers, each as a mapping of its columns."""

    jobs: Sequence[Mapping[str, Any]] = ()
    attempts: Sequence[Mapping[str, Any]] = ()
    artifacts: Sequence[Mapping[str, Any]] = ()
    log: Sequence[Mapping[str, Any]] = ()
    """The job log: event_id, type, job_id, attempt_id."""
    ledger: Sequence[Mapping[str, Any]] = ()
    """Both adapters' ledgers: provider, attempt_id, job_id, state, version, provider_ref."""
    ordered: Sequence[Mapping[str, Any]] = ()
    """The orchestrator's attempts: attempt_id, job_id, provider, live."""
    decided: Sequence[Mapping[str, Any]] = ()
    """The orchestrator's jobs: job_id, state, version."""
    unfinished: Sequence[str] = ()
    """Unfinished work although the system is idle, as text."""
    next_offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """The log-sink's next offset in each partition."""


@dataclass(frozen=True, slots=True)
class Window:
    """A period in which a fault was active, and which one. Times are Unix times in seconds."""

    fault: str
    began: float
    ended: float
    explains: frozenset[str] = frozenset()
    """The failure kinds that the fault explains."""
    provider: str | None = None
    """The affected provider; None for both."""
    refuses: bool = False
    """Whether the provider may have refused a POST because of it, with an answer that was lost."""
    ends: frozenset[str] = frozenset()
    """The services whose processes may end because of it, to be started again."""
    hides_results: bool = False
    """Whether the provider did not give the results of runs because of it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All evidence. `bills` are the entries as the sandbox writes them."""

    answers: Sequence[ClientAnswer]
    bills: Sequence[Mapping[str, Any]]
    events: Sequence[Event]
    tables: Tables
    ends: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """The end of each partition that the log-sink reads."""
    dead_letters: Sequence[DeadLetter] = ()
    windows: Sequence[Window] = ()
    unexpected_ends: Sequence[UnexpectedEnd] = ()
    process_ends: Sequence[ProcessEnd] = ()
