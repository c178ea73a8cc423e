"""CloudEvents 1.0 in Kafka binary mode: how a message becomes a record, and a record a message again.

The header names are those of the CloudEvents Kafka protocol binding 1.0.2 (`ce_` attributes, `content-type`) and of
W3C Trace Context (`traceparent`).
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
"""NUL as JSON writes it. PostgreSQL cannot hold it: https://www.postgresql.org/docs/current/datatype-json.html"""
_MOST_ERRORS: Final = 50
"""pydantic tells all errors of a body or none, and there can be a million."""
_KNOWN_NAMES: Final = {kind.rpartition(".v")[0] for kind in MESSAGE_TYPES}


class Undecodable(Exception):
    """The record is not a message Segue can read; it belongs in the dead letters."""


class Oversized(Undecodable):
    """The record is larger than any message; it was small enough for Kafka only because it was compressed."""


class UnknownMajor(Undecodable):
    """The message's type is known, but not in this major version; a newer service can replay it."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A message of a type this version does not know: counted, and passed over."""

    type: str


@dataclass(frozen=True, slots=True)
class Record:
    """A message as it goes to Kafka."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as it came from Kafka, with what its headers said."""

    message: Message
    event_id: str
    source: str
    traceparent: str | None
    size: int = field(default=0, compare=False)
    """Bytes of its body."""


def encode(message: Message, *, source: str, traceparent: str | None) -> Record:
    """The record that carries `message`, published by the service `source`."""
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
    """The message in a record. Raises Undecodable (why, in words) for anything that is not one."""
    named = {name: _text(raw) for name, raw in headers}
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
        raise Undecodable(_in_words(kind.TYPE, error)) from None
    if holds_nul(value) and holds_nul(message.model_dump_json().encode()):
        raise Undecodable(f"{kind.TYPE}: body: holds NUL, which is no text")
    return Envelope(message, event_id[:100], named.get("ce_source") or "", named.get("traceparent"), len(value))


def holds_nul(body: bytes) -> bool:
    """Whether a text within a JSON body holds NUL."""
    return b"\\u0000" in body and _NUL.search(body) is not None


def _text(raw: bytes | None) -> str | None:
    # NUL, like bytes that are no text, would be refused by whatever stores the header.
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
        raise UnknownMajor(f"{parsed['name']} in major version {parsed['major']}, which this version does not know")
    return Skipped(name)


def _in_words(name: str, error: ValidationError) -> str:
    if (count := error.error_count()) > _MOST_ERRORS:
        return f"{name}: {count} errors"
    # Inputs are left out: a body may hold what must not be repeated in logs.
    problems = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors(include_input=False)]
    return f"{name}: {'; '.join(problems[:5])}"[:1000].replace("\0", "\ufffd")
