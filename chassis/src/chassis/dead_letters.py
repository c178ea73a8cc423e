"""Dead letters: what could not be processed, whole, with where it came from and why, so that it can be replayed."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contracts.envelope import Record
from contracts.topics import DEAD_LETTERS

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

MAX_REASON_CHARS: Final = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record nobody could process, and why."""

    record: ConsumerRecord[bytes, bytes]
    error: str
    tries: int
    kept: bool = False
    """The service has kept it in a place of its own, so it is counted but not published."""


def to_record(letter: DeadLetter, service: str) -> Record:
    """The letter as it is published: value and key as they were, everything else in headers."""
    source = letter.record
    original = [[name, None if value is None else base64.b64encode(value).decode()] for name, value in source.headers]
    headers = {
        "dead-letter-service": service,
        "dead-letter-topic": source.topic,
        "dead-letter-partition": str(source.partition),
        "dead-letter-offset": str(source.offset),
        "dead-letter-timestamp-ms": str(source.timestamp),
        "dead-letter-error": _printable(letter.error),
        "dead-letter-tries": str(letter.tries),
        "dead-letter-headers": json.dumps(original),
        "dead-letter-null-key": str(source.key is None).lower(),
        "dead-letter-null-value": str(source.value is None).lower(),
    }
    return Record(
        topic=DEAD_LETTERS.name,
        key=source.key or b"",
        value=source.value or b"",
        headers=tuple((name, value.encode()) for name, value in headers.items()),
    )


def _printable(text: str) -> str:
    return text[:MAX_REASON_CHARS].encode("utf-8", "replace").decode()
