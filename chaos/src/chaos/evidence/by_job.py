"""The evidence grouped by job and by attempt."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from chaos.evidence.model import ClientAnswer, Event, Evidence

FINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
ENDS: Final = frozenset({"job.succeeded", "job.failed", "job.cancelled"})
_TOKEN: Final = re.compile(r"\[([a-z0-9-]+-[0-9]{4,})\]")

Entry = Mapping[str, Any]


@dataclass(slots=True)
class AttemptEvidence:
    """The evidence of one attempt: the order, its rows in the ledger and the read model, its events, and its POSTs."""

    attempt_id: str
    ordered: Entry | None = None
    ledger: Entry | None = None
    row: Entry | None = None
    events: list[Event] = field(default_factory=list)
    posts: list[Entry] = field(default_factory=list)

    @property
    def n(self) -> int:
        """The number of the attempt within its job."""
        return int(self.attempt_id.rpartition(".")[2])

    @property
    def bills(self) -> list[Entry]:
        """The POSTs that the provider accepted."""
        return [post for post in self.posts if post["accepted"]]

    @property
    def end(self) -> Event | None:
        """The first event that ends the attempt; None if there is none."""
        return next((one for one in self.events if one.type in _OVER), None)

    @property
    def last(self) -> Event | None:
        """The last event that ends the attempt, which may be a late one; None if there is none."""
        return next((one for one in reversed(self.events) if one.type in _OVER), None)

    @property
    def provider(self) -> str:
        """The provider of the attempt; `?` if nothing names it."""
        known = self.ordered or self.row or next(iter(self.posts), None) or {}
        return str(known.get("provider", "?"))

    @property
    def endpoint(self) -> str | None:
        """The provider's endpoint that it was ordered at; None if no event names it."""
        return next((str(one.data["endpoint"]) for one in self.events if one.data.get("endpoint")), None)


_OVER: Final = frozenset({"attempt.succeeded", "attempt.failed", "attempt.cancelled"})


@dataclass(slots=True)
class JobEvidence:
    """The evidence of one job."""

    job_id: str
    token: str | None = None
    answers: list[ClientAnswer] = field(default_factory=list)
    requested: list[Event] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    """The events in segue.jobs, each version once, in order."""
    row: Entry | None = None
    decided: Entry | None = None
    artifacts: list[Entry] = field(default_factory=list)
    attempts: dict[str, AttemptEvidence] = field(default_factory=dict)
    contradicted: list[Event] = field(default_factory=list)
    """Events with the id of an earlier one and other contents; a request may be told again with other times."""

    @property
    def accepted(self) -> bool:
        """Whether a client received a 202."""
        return any(one.status == 202 and one.call in ("post", "repeat") for one in self.answers)

    @property
    def ends(self) -> list[Event]:
        """The events that end the job, in order."""
        return [one for one in self.events if one.type in ENDS]

    @property
    def spec(self) -> Entry:
        """The client's request specification; empty if there is none."""
        return next((one.body["spec"] for one in self.answers if "spec" in one.body), {})

    @property
    def deadline_at(self) -> datetime | None:
        """The deadline of the job; None if no request has one."""
        said = next((one.data["deadline_at"] for one in self.requested if "deadline_at" in one.data), None)
        return None if said is None else datetime.fromisoformat(said)

    def in_order(self) -> list[AttemptEvidence]:
        """Its attempts in order."""
        return sorted(self.attempts.values(), key=lambda one: one.n)


@dataclass(slots=True)
class EvidenceByJob:
    """All evidence by job, and the parts that belong to none."""

    jobs: dict[str, JobEvidence]
    unattributed: list[Entry]
    """Bills without an attempt id."""
    endings: dict[str, Entry]
    """How accepted runs ended at the provider, by request id."""
    tokens: dict[str, set[str]]
    """The job ids that were returned for each token."""


def group_by_job(evidence: Evidence) -> EvidenceByJob:
    """Group the evidence."""
    by_job = EvidenceByJob({}, [], {}, defaultdict(set))
    for entry in evidence.bills:
        if entry["event"] != "post":
            by_job.endings[entry["request_id"]] = entry
        elif entry["attempt_id"] is None:
            by_job.unattributed.append(entry)
        else:
            _attempt(by_job, entry["attempt_id"]).posts.append(entry)
    _add_events(by_job, evidence.events)
    _add_answers(by_job, evidence.answers)
    _add_tables(by_job, evidence)
    return by_job


def token_in(texts: object) -> str | None:
    """The token in a prompt, anywhere in a document; None if there is none."""
    return next((found[1] for text in _strings(texts) if (found := _TOKEN.search(text))), None)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _strings(one)


def _job(by_job: EvidenceByJob, job_id: str) -> JobEvidence:
    return by_job.jobs.setdefault(job_id, JobEvidence(job_id))


def _attempt(by_job: EvidenceByJob, attempt_id: str) -> AttemptEvidence:
    job = _job(by_job, attempt_id.rpartition(".")[0])
    return job.attempts.setdefault(attempt_id, AttemptEvidence(attempt_id))


def _add_answers(by_job: EvidenceByJob, answers: Sequence[ClientAnswer]) -> None:
    # A client that received no job id may have created a job all the same; its token in the log shows that.
    by_token = {job.token: job.job_id for job in by_job.jobs.values() if job.token}
    for one in answers:
        job_id = one.job_id or by_token.get(one.token)
        if job_id is None:
            continue
        if one.status == 202 and one.call in ("post", "repeat"):
            by_job.tokens[one.token].add(job_id)
        _job(by_job, job_id).answers.append(one)


def _add_events(by_job: EvidenceByJob, events: Iterable[Event]) -> None:
    """Add each event once, however often it was published, in the order of versions."""
    seen: dict[str, Event] = {}
    for one in sorted(events, key=lambda event: (event.job_id, event.data.get("version") or 0, event.at)):
        first = seen.setdefault(one.event_id, one)
        if first is not one:
            if one.type != "job.requested" and (one.type, one.data) != (first.type, first.data):
                _job(by_job, one.job_id).contradicted.append(one)
            continue
        if one.type == "job.requested":
            job = _job(by_job, one.job_id)
            job.requested.append(one)
            job.token = token_in(one.data.get("input"))
        elif one.attempt_id is not None and one.type != "attempt.resolution_requested":
            _attempt(by_job, one.attempt_id).events.append(one)
        elif one.topic == "segue.jobs":
            _job(by_job, one.job_id).events.append(one)


def _add_tables(by_job: EvidenceByJob, evidence: Evidence) -> None:
    tables = evidence.tables
    for row in tables.jobs:
        _job(by_job, row["job_id"]).row = row
    for row in tables.decided:
        _job(by_job, row["job_id"]).decided = row
    for row in tables.artifacts:
        _job(by_job, row["job_id"]).artifacts.append(row)
    for row in tables.attempts:
        _attempt(by_job, row["attempt_id"]).row = row
    for row in tables.ledger:
        _attempt(by_job, row["attempt_id"]).ledger = row
    for row in tables.ordered:
        _attempt(by_job, row["attempt_id"]).ordered = row
