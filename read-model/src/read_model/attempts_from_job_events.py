"""What a job's events imply about its attempts, for readers that do not have the events of the attempts themselves.

The rows are separate from those of ATTEMPTS: their versions are the job's, which cannot be compared with the attempt's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from contracts.ids import AttemptId, number_of
from contracts.messages.attempts import AttemptState
from contracts.messages.base import Message
from contracts.messages.jobs import JobCancelled, JobEvent, JobFailed, JobRerouted, JobStarted, JobSucceeded
from read_model.tables import Row, Table, columns

IMPLIED: Final = Table(
    "implied_attempts",
    ("attempt_id",),
    (
        *columns("once", "job_id:text n:integer provider:text"),
        *columns("earliest", "finished_at:timestamptz"),
        *columns("highest", "version:bigint updated_at:timestamptz"),
        *columns("latest", "state:text error_kind:text error_code:text message:text http_status:integer"),
        *columns("latest", "cost_usd:float8"),
    ),
)


def implied(message: Message) -> Iterator[tuple[Table, Row]]:
    """The rows of IMPLIED that a message reports; none unless it is an event of a job about its attempts."""
    match message:
        case JobStarted():
            yield _row(message, message.attempt_id, message.provider, "running")
        case JobRerouted():
            failure = {name: getattr(message, name) for name in ("error_code", "message", "http_status", "cost_usd")}
            failure |= {"error_kind": message.kind, "finished_at": message.occurred_at}
            yield _row(message, message.from_attempt_id, message.from_provider, "failed", failure)
            yield _row(message, message.to_attempt_id, message.to_provider, "queued")
        case JobSucceeded():
            finished = {"finished_at": message.occurred_at}
            yield _row(message, message.attempt_id, message.provider, "succeeded", finished)
        case JobFailed() | JobCancelled():
            for outcome in message.attempts:
                state: AttemptState = "running" if outcome.outcome == "live" else outcome.outcome
                end = outcome.model_dump(include={"error_code", "message", "http_status", "cost_usd"})
                end |= {"error_kind": outcome.kind, "finished_at": None if state == "running" else message.occurred_at}
                yield _row(message, outcome.attempt_id, outcome.provider, state, end)


def _row(
    message: JobEvent, attempt_id: AttemptId, provider: str, state: AttemptState, more: dict[str, Any] | None = None
) -> tuple[Table, Row]:
    return IMPLIED, {
        "attempt_id": attempt_id,
        "job_id": message.job_id,
        "n": number_of(attempt_id),
        "provider": provider,
        "version": message.version,
        "updated_at": message.occurred_at,
        "state": state,
    } | (more or {})
