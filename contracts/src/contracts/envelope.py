"""CloudEvents 1.0 in Kafka's binary content mode: encodes messages as records, and decodes them.

The header names are those of the CloudEvents Kafka protocol binding 1.0.2 (`ce_` attributes, `content-type`;
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md) and of W3C Trace
Context (`traceparent`; https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError

from contracts.messages.base import Message
from contracts.topics import MAX_MESSAGE_BYTES, MESSAGE_TYPES, topic_for

SPEC_VERSION: Final = "1.0"
CONTENT_TYPE: Final = "application/json"

_TYPE = re.compile(r"^(?P<name>segue\.[a-z_.]+)\.v(?P<major>[0-9]{1,4})$")
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""NUL, escaped in JSON. PostgreSQL cannot store it: https://www.postgresql.org/docs/current/datatype-json.html"""
_READ: Final = frozenset({"ce_type", "ce_id", "ce_source", "traceparent"})
_MOST_ERRORS: Final = 50
"""Above this number only the count is reported: pydantic builds the list of all errors, which can be a million."""
_KNOWN_NAMES: Final = {kind.rpartition(".v")[0] for kind in MESSAGE_TYPES}


class Undecodable(Exception):
    """The record does not contain a valid message; it goes to the dead letters."""


class Oversized(Undecodable):
    """The body exceeds MAX_MESSAGE_BYTES; Kafka accepted the record because it was compressed."""


class UnknownMajor(Undecodable):
    """The message's type is known, but not in this major version; a newer release can replay it."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A message of a type that this release does not have; it is counted and ignored."""

    type: str


@dataclass(frozen=True, slots=True)
class Record:
    """A message as it is written to Kafka."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message read from Kafka, with the values of its headers."""

    message: Message
    event_id: str
    source: str
    traceparent: str | None
    size: int = field(default=0, compare=False)
    """The size of the body in bytes."""


def encode(message: Message, *, source: str, traceparent: str | None) -> Record:
    """The record for `message`; `source` is the name of the service that publishes it."""
    headers = [
        ("ce_specversion", SPEC_VERSION),
        ("ce_id", str(message.event_id)),
        ("ce_type", message.TYPE),
        ("ce_source", f"/segue/{source}"),
        ("ce_time", message.occurred_at.isoformat()),
        ("ce_subject", message.subject),
        ("content-type", CONTENT_TYPE),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent))
    return Record(
        topic=topic_for(message).name,
        key=message.job_id.encode(),
        value=message.model_dump_json().encode(),
        headers=tuple((name, value.encode()) for name, value in headers),
    )


def decode(headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> Envelope | Skipped:
    """The message in a record; Skipped if this release does not have its type. Raises Undecodable with the reason."""
    named = {name: _text(raw) for name, raw in headers if name in _READ}
    kind = _message_type(named.get("ce_type"))
    if isinstance(kind, Skipped):
        return kind
    event_id = named.get("ce_id")
    if not event_id:
        raise Undecodable("no ce_id header")
    if value is None:
        raise Undecodable("no body")
    if len(value) > MAX_MESSAGE_BYTES:
        raise Oversized(f"{len(value)} bytes of at most {MAX_MESSAGE_BYTES}")
    try:
        message = kind.model_validate_json(value)
    except ValidationError as error:
        raise Undecodable(_describe(kind.TYPE, error)) from None
    if holds_nul(value) and holds_nul(message.model_dump_json().encode()):
        raise Undecodable(f"{kind.TYPE}: body: contains NUL, which is not text")
    return Envelope(message, event_id[:100], named.get("ce_source") or "", named.get("traceparent"), len(value))


def holds_nul(body: bytes) -> bool:
    """Whether a string in a JSON body contains NUL."""
    return b"\\u0000" in body and _NUL.search(body) is not None


def _text(raw: bytes | None) -> str | None:
    # Databases refuse NUL and invalid UTF-8, and headers are stored.
    return None if raw is None else raw[:1000].decode("utf-8", "replace").replace("\0", "\ufffd")


def _message_type(name: str | None) -> type[Message] | Skipped:
    if not name:
        raise Undecodable("no ce_type header")
    known = MESSAGE_TYPES.get(name)
    if known is not None:
        return known
    parsed = _TYPE.fullmatch(name)
    if parsed is None:
        raise Undecodable(f"ce_type is not one of Segue's: {name[:100]!r}")
    if parsed["name"] in _KNOWN_NAMES:
        raise UnknownMajor(f"{parsed['name']} in major version {parsed['major']}, which this release does not have")
    return Skipped(name)


def _describe(name: str, error: ValidationError) -> str:
    if (count := error.error_count()) > _MOST_ERRORS:
        return f"{name}: {count} errors"
    # Input values are left out: a body may contain data that must not be logged.
    problems = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors(include_input=False)]
    return f"{name}: {'; '.join(problems[:5])}"[:1000].replace("\0", "\ufffd")
