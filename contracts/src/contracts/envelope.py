"""CloudEvents 1.0 in Kafka binary mode: how a message becomes a record, and a record a message again.

The header names are those of the CloudEvents Kafka protocol binding 1.0.2 (`ce_` attributes, `content-type`) and of
W3C Trace Context (`traceparent`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from contracts.message import Message
from contracts.topics import MESSAGE_TYPES, topic_for

SPEC_VERSION: Final = "1.0"
CONTENT_TYPE: Final = "application/json"

_TYPE = re.compile(r"^(?P<name>segue\.[a-z_.]+)\.v(?P<major>[0-9]{1,4})$")
_KNOWN_NAMES: Final = {kind.rpartition(".v")[0] for kind in MESSAGE_TYPES}


class Undecodable(Exception):
    """The record is not a message Segue can read; it belongs in the dead letters."""


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
    try:
        message = kind.model_validate_json(value)
    except ValidationError as error:
        raise Undecodable(_in_words(kind.TYPE, error)) from None
    return Envelope(message, event_id[:100], named.get("ce_source") or "", named.get("traceparent"))


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
    # Inputs are left out: a body may hold what must not be repeated in logs.
    problems = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors(include_input=False)]
    return f"{name}: {'; '.join(problems[:5])}"[:1000].replace("\0", "\ufffd")
