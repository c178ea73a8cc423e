"""The row of a message in the append-only event log. Pure."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from chassis.delivery.consumer import Delivered
from chassis.observability.telemetry import trace_id_of
from contracts.envelope import holds_nul
from contracts.ids import AttemptId, number_of
from contracts.messages.attempts import AttemptEvent, AttemptFailed
from contracts.messages.base import Message
from contracts.messages.jobs import JobFailed, JobRerouted, JobStarted, JobSucceeded
from contracts.messages.requests import CollectionRequested, ResolutionRequested
from contracts.messages.wording import describe
from read_model.tables import Row

EVENT_COLUMNS: Final = {
    "event_id": "text",
    "type": "text",
    "occurred_at": "timestamptz",
    "topic": "text",
    "kafka_partition": "integer",
    "kafka_offset": "bigint",
    "job_id": "text",
    "track_id": "text",
    "attempt_id": "text",
    "n": "integer",
    "provider": "text",
    "error_kind": "text",
    "error_code": "text",
    "http_status": "integer",
    "message": "text",
    "trace_id": "text",
    "data": "text",
}
"""The columns of `events` that a message fills, with the types of the statement's parameters."""

_MAX_DIGITS_BEFORE_POINT: Final = 131_072
_MAX_DIGITS_AFTER_POINT: Final = 16_383


class _TooBig(Exception):
    pass


def fits_jsonb(body: bytes) -> bool:
    """Whether PostgreSQL's jsonb can store a valid body, including the fields that this release ignores.

    jsonb does not allow NUL, and limits the digits of numbers:
    https://www.postgresql.org/docs/current/datatype-json.html and
    https://www.postgresql.org/docs/current/datatype-numeric.html#DATATYPE-NUMERIC-TABLE.
    """
    if holds_nul(body):
        return False
    try:
        json.loads(body, parse_float=_checked, parse_int=_checked)
    except _TooBig:
        return False
    return True


def _checked(number: str) -> None:
    try:
        value = Decimal(number)
    except InvalidOperation:  # The exponent is beyond the range of Decimal.
        raise _TooBig from None
    exponent = value.as_tuple().exponent
    if value.adjusted() >= _MAX_DIGITS_BEFORE_POINT or not isinstance(exponent, int):
        raise _TooBig
    if -exponent > _MAX_DIGITS_AFTER_POINT:
        raise _TooBig


def event_row(delivered: Delivered) -> Row:
    """The row of a message in the event log; `data` is the body as received, including unknown fields."""
    message, record = delivered.message, delivered.record
    return {
        "event_id": delivered.event_id,
        "type": message.TYPE,
        "occurred_at": message.occurred_at,
        "topic": record.topic,
        "kafka_partition": record.partition,
        "kafka_offset": record.offset,
        "job_id": message.job_id,
        "track_id": getattr(message, "track_id", None),
        "message": describe(message),
        "trace_id": trace_id_of(delivered.traceparent),
        "data": (record.value or b"").decode(),
    } | _attempt_and_error(message)


def _attempt_and_error(message: Message) -> dict[str, Any]:
    match message:
        case AttemptFailed():
            error = {"error_kind": message.kind, "error_code": message.error_code, "http_status": message.http_status}
            return error | _attempt(message.attempt_id, message.provider)
        case AttemptEvent() | JobStarted() | JobSucceeded() | ResolutionRequested() | CollectionRequested():
            return _attempt(message.attempt_id, message.provider)
        case JobRerouted():
            error = {"error_kind": message.kind, "error_code": message.error_code, "http_status": message.http_status}
            return error | _attempt(message.to_attempt_id, message.to_provider)
        case JobFailed():
            return {"error_kind": message.kind}
    return {}


def _attempt(attempt_id: AttemptId, provider: str) -> dict[str, Any]:
    return {"attempt_id": attempt_id, "n": number_of(attempt_id), "provider": provider}
