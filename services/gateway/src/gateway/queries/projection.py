"""The state of a job in the tail: its rows, merged by the rules of the read model, and the lines of its log. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from chassis.observability.telemetry import trace_id_of
from contracts.envelope import Envelope
from contracts.generation import Provider
from contracts.ids import AttemptId, number_of
from contracts.messages.base import Message
from contracts.messages.jobs import JobCancelled, JobEvent, JobFailed, JobRerouted, JobStarted, JobSucceeded, ended_last
from contracts.messages.requests import CollectionRequested, ResolutionRequested
from contracts.messages.wording import describe
from gateway.queries.model import Job, LogLine
from gateway.queries.model_from_rows import job_of
from read_model.attempts_from_job_events import implied
from read_model.merge import State, with_reports
from read_model.rows_from_events import reports

MAX_LINES: Final = 1_000
"""The lines kept of one job's log, more than an ordinary job has. The read model has all lines."""


@dataclass(frozen=True, slots=True)
class Known:
    """The state of one job in the tail; empty if the tail has no event of it."""

    state: State = field(default_factory=dict)
    log: tuple[LogLine, ...] = ()

    @property
    def job(self) -> Job | None:
        """The job; None if no event but a request to cancel it has arrived."""
        return job_of(self.state)


def fold(known: Known, envelope: Envelope) -> Known:
    """The state after the event in `envelope`; a repeated event changes nothing."""
    if any(line.event_id == envelope.event_id for line in known.log):
        return known
    message = envelope.message
    rows = chain(reports(message, trace_id_of(envelope.traceparent)), implied(message))
    lines = (*known.log[1 - MAX_LINES :], _line(message, envelope.event_id))
    return Known(with_reports(known.state, rows), lines)


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
