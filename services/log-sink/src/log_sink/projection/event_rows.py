"""The row of a message in the append-only event log. Pure."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Final

from chassis.delivery.consumer import Delivered
from chassis.observability.telemetry import trace_id_of
from contracts.envelope import holds_nul
from contracts.failures import FailureKind
from contracts.ids import AttemptId, number_of
from contracts.messages.attempts import AttemptEvent, AttemptFailed
from contracts.messages.base import Message
from contracts.messages.jobs import JobFailed, JobRerouted, JobStarted, JobSucceeded
from contracts.messages.requests import CollectionRequested, ResolutionRequested
from contracts.messages.wording import describe

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


class _NotStorable(Exception):
    pass


def fits_jsonb(body: bytes) -> bool:
    """Whether PostgreSQL's jsonb can store a valid body, including the fields that this release ignores.

    jsonb does not allow NUL, NaN and Infinity, which the decoder of messages accepts, and limits the digits of numbers:
    https://www.postgresql.org/docs/current/datatype-json.html and
    https://www.postgresql.org/docs/current/datatype-numeric.html#DATATYPE-NUMERIC-TABLE.
    """
    if holds_nul(body):
        return False
    try:
        json.loads(body, parse_float=_checked, parse_int=_checked, parse_constant=_refused)
    except _NotStorable:
        return False
    return True


def _refused(_constant: str) -> None:
    raise _NotStorable


def _checked(number: str) -> None:
    try:
        value = Decimal(number)
    except InvalidOperation:  # The exponent is beyond the range of Decimal.
        raise _NotStorable from None
    exponent = value.as_tuple().exponent
    if value.adjusted() >= _MAX_DIGITS_BEFORE_POINT or not isinstance(exponent, int):
        raise _NotStorable
    if -exponent > _MAX_DIGITS_AFTER_POINT:
        raise _NotStorable


def event_row(delivered: Delivered) -> tuple[object, ...]:
    """The values of EVENT_COLUMNS for a message; `data` is the body as received, including unknown fields."""
    message, record = delivered.message, delivered.record
    return (
        delivered.event_id,
        message.TYPE,
        message.occurred_at,
        record.topic,
        record.partition,
        record.offset,
        message.job_id,
        getattr(message, "track_id", None),
        *_attempt(message),
        *_error(message),
        describe(message),
        trace_id_of(delivered.traceparent),
        (record.value or b"").decode(),
    )


def _attempt(message: Message) -> tuple[AttemptId, int, str] | tuple[None, None, None]:
    match message:
        case AttemptEvent() | JobStarted() | JobSucceeded() | ResolutionRequested() | CollectionRequested():
            return message.attempt_id, number_of(message.attempt_id), message.provider
        case JobRerouted():
            return message.to_attempt_id, number_of(message.to_attempt_id), message.to_provider
    return None, None, None


def _error(message: Message) -> tuple[FailureKind | None, str | None, int | None]:
    match message:
        case AttemptFailed() | JobRerouted():
            return message.kind, message.error_code, message.http_status
        case JobFailed():
            return message.kind, None, None
    return None, None, None
