"""The state of a job in the tail: its rows, merged by the rules of the read model, and the lines of its log. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, Final

from chassis.observability.telemetry import trace_id_of
from contracts.envelope import Envelope
from contracts.failures import FailureKind
from contracts.generation import Provider
from contracts.ids import AttemptId, number_of
from contracts.messages.base import Message
from contracts.messages.jobs import JobCancelled, JobEvent, JobFailed, JobRerouted, JobStarted, JobSucceeded, ended_last
from contracts.messages.requests import CancelRequested, CollectionRequested, JobRequested, ResolutionRequested
from contracts.messages.wording import describe
from gateway.queries.model import Job, LogLine
from gateway.queries.model_from_rows import job_of, job_row
from read_model.attempts_from_job_events import implied
from read_model.merge import State, row_of, with_reports
from read_model.rows_from_events import reports
from read_model.tables import JOBS, TRACKS, Row, Table, columns

MAX_LINES: Final = 1_000
"""The lines kept of one job's log, more than an ordinary job has. The read model has all lines."""

REQUESTS: Final = Table(
    "requests",
    ("job_id",),
    (
        *columns("highest", "deadline_at:timestamptz cancelled_at:timestamptz"),
        *columns("latest", "fingerprint:text requested_at:timestamptz", "deadline_at"),
    ),
)
"""Of the requests for a job that reached the log in time, the one with the latest deadline, and the time of the last
request to cancel the job. Only the tail has this table: a repeat is the same event to the read model, which stores it
once."""


@dataclass(frozen=True, slots=True)
class Known:
    """The state of one job in the tail; empty if the tail has no event of it."""

    state: State = field(default_factory=dict)
    log: tuple[LogLine, ...] = ()

    @property
    def job(self) -> Job | None:
        """The job as its last event left it; None if no event but a request to cancel it has arrived."""
        return job_of(self.state)

    def job_at(self, now: datetime) -> Job | None:
        """The job at a time by the database's clock: queued again if a repeat of its request revives it."""
        return job_of(state_at(self.state, now))


def fold(known: Known, envelope: Envelope) -> Known:
    """The state after the event in `envelope`; a repeated event changes nothing but the row of REQUESTS.

    A request for a job must have reached the log in time.
    """
    message = envelope.message
    request = [(REQUESTS, _request(message))] if isinstance(message, JobRequested | CancelRequested) else []
    if any(line.event_id == envelope.event_id for line in known.log):
        return Known(with_reports(known.state, request), known.log) if request else known
    rows = chain(request, reports(message, trace_id_of(envelope.traceparent)), implied(message))
    lines = (*known.log[1 - MAX_LINES :], _line(message, envelope.event_id))
    return Known(with_reports(known.state, rows), lines)


def revived_until(state: State) -> datetime | None:
    """Until when a repeat of its request may still run a job that expired unsent; None if none can.

    A request that is in time makes the job, which then cannot expire before the request's deadline, or is ignored, as
    the job lives, or revives the job that expired earlier. A job that was accepted lives up to its own deadline: only a
    request from then on revives it. One that was not accepted never lived, so its end before the deadline of a request
    in time is not the end of that request. The orchestrator reads it after the one that expired, and runs it unless it
    reads it after its deadline.
    """
    request, row = row_of(state, REQUESTS), job_row(state)
    deadline_at: datetime | None = None if request is None else request["deadline_at"]
    if request is None or deadline_at is None or row is None or row["status"] != "failed":
        return None
    # A list asks this of every job that has just failed; to build them all would take ten times as long.
    if (row["error"] or {}).get("kind") != FailureKind.EXPIRED:
        return None
    if row["plan_version"] and request["requested_at"] < row["deadline_at"]:
        return None
    job = job_of(state)
    if job is None or not job.never_run or job.finished_at is None or job.finished_at >= deadline_at:
        return None
    # The orchestrator ignores another request under the same key.
    return deadline_at if job.fingerprint in (None, request["fingerprint"]) else None


def state_at(state: State, now: datetime) -> State:
    """The state at a time by the database's clock: a job that a repeat of its request revives is queued again.

    The job keeps the version of its end, so that only a later event changes it. A request to cancel the job that
    expired does not apply to the revived one.
    """
    changes: dict[Table, Row] = {}
    until = revived_until(state)
    if until is not None and now < until:
        changes[TRACKS] = {"status": "queued", "finished_at": None}
        changes[JOBS] = {**changes[TRACKS], "error": None, "cost_usd": None, "deadline_at": until}
    if _has_old_cancel(state):
        changes[JOBS] = {**changes.get(JOBS, {}), "cancel_asked_at": None}
    return (
        {(table, key): {**row, **changes.get(table, {})} for (table, key), row in state.items()} if changes else state
    )


def is_revived(state: State) -> bool:
    """Whether a repeat of its request revives the job, or has revived it."""
    job = job_row(state)
    # The plan of a job is in its first event, unless the job was revived after another one.
    return job is not None and ((job["plan_version"] or 0) > 1 or revived_until(state) is not None)


def unsure_job(state: State, *, is_stored: bool) -> str | None:
    """The id of the job of a row in a list, if the read model has to be asked for the job; None if not.

    A row that is not among the stored ones of its page may be a repeat of the request for a stored job: the gateway
    publishes one if PostgreSQL does not answer whether there is such a job. Only a job whose plan is in the tail is
    known to be as new as its request.
    """
    job = row_of(state, JOBS)
    if is_stored or job is None:
        return failed_without_its_job(state)
    return None if job["plan_version"] else str(job["job_id"])


def failed_without_its_job(state: State) -> str | None:
    """The id of a job in the tail whose end only its track's row tells: whether the job may be revived is not known."""
    track, job = row_of(state, TRACKS), row_of(state, JOBS)
    if track is None or job is None or track["status"] != "failed" or job["version"] >= track["version"]:
        return None
    return str(job["job_id"])


def _has_old_cancel(state: State) -> bool:
    """Whether the request to cancel a revived job is older than the one that revived it, or no longer in the tail."""
    job, request = job_row(state), row_of(state, REQUESTS) or {}
    if job is None or job["cancel_asked_at"] is None or not is_revived(state):
        return False
    cancelled_at, requested_at = request.get("cancelled_at"), request.get("requested_at")
    return cancelled_at is None or requested_at is None or cancelled_at < requested_at


def _request(message: JobRequested | CancelRequested) -> Row:
    if isinstance(message, CancelRequested):
        return {"job_id": message.job_id, "cancelled_at": message.occurred_at}
    deadline = {"deadline_at": message.deadline_at, "fingerprint": message.fingerprint}
    return {"job_id": message.job_id, "requested_at": message.occurred_at} | deadline


def event_name(message_type: str) -> str:
    """The name of a message in a job's log: `job.rerouted` for `segue.job.rerouted.v1`."""
    return message_type.removeprefix("segue.").rpartition(".v")[0] or message_type


def _line(message: Message, event_id: str) -> LogLine:
    return LogLine(
        event_id=event_id,
        time=message.occurred_at,
        event=event_name(message.TYPE),
        message=describe(message),
        version=message.version if isinstance(message, JobEvent) else None,
        **_details(message),
    )


def _details(message: Message) -> dict[str, Any]:
    """The provider, the attempt, the error, and the number of the attempt whose end led to the event."""
    match message:
        case JobStarted():
            return _at(message.provider, message.attempt_id)
        case JobSucceeded():
            return _at(message.provider, message.attempt_id) | {"answers_to": number_of(message.attempt_id)}
        case JobRerouted():
            return _at(message.to_provider, message.to_attempt_id) | {
                "error_kind": message.kind,
                "error_code": message.error_code or message.kind,
                "http_status": message.http_status,
                "answers_to": number_of(message.from_attempt_id),
            }
        case JobFailed():
            return {"error_kind": message.kind, "error_code": message.kind, "answers_to": ended_last(message.attempts)}
        case JobCancelled():
            return {"answers_to": ended_last(message.attempts)}
        case CollectionRequested():
            return _at(message.provider, message.attempt_id)
        case ResolutionRequested():
            return _at(message.provider, message.attempt_id) | {"provider_ref": message.provider_ref}
    return {}


def _at(provider: Provider, attempt_id: AttemptId) -> dict[str, Any]:
    return {"provider": provider, "attempt": number_of(attempt_id)}
