"""Dead letters as they are read back: what became one, and the record that it was.

A letter is addressed by its place in the dead-letter topic, `PARTITION/OFFSET`. Pure, except `read_letters`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer

from chassis.delivery.handling import REPLAYED
from chassis.kafka.metadata import never_create_topics
from chassis.kafka.records import Unreadable, read_past_unreadable
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Envelope, Record, Undecodable, decode
from contracts.messages.commands import RunAttempt
from contracts.topics import COMMANDS, DEAD_LETTERS, TOPICS, TopicNames

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

_PREFIX: Final = "dead-letter-"
_BATCH: Final = 1_000


class NotALetter(Exception):
    """A record of the dead-letter topic that Segue did not write, or that was cut."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter."""

    partition: int
    offset: int
    written_at: datetime
    service: str
    """The service that could not process the record."""
    topic: str
    """The topic of the record, by its name on the cluster."""
    source_partition: int
    source_offset: int
    source_ms: int
    """When the record arrived in its topic, as Unix time in milliseconds."""
    error: str
    tries: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    left_out: tuple[str, ...]
    """What did not fit into the letter: `headers`, `value`, `key`."""

    @property
    def id(self) -> str:
        """Its place, as `segue dlq` takes it."""
        return f"{self.partition}/{self.offset}"

    @property
    def content(self) -> tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]:
        """The key, the value and the headers of the record."""
        return self.key, self.value, self.headers

    @property
    def type(self) -> str:
        """The type of the message, as far as its headers say it; else empty."""
        return next((value.decode(errors="replace") for name, value in self.headers if name == "ce_type" and value), "")


def letter_of(record: ConsumerRecord[bytes, bytes]) -> Letter:
    """The letter in a record. Raises NotALetter."""
    if isinstance(record, Unreadable):
        raise NotALetter(f"{record.partition}/{record.offset}: {record.why}")
    said = {name.removeprefix(_PREFIX): value or b"" for name, value in record.headers if name.startswith(_PREFIX)}
    try:
        text = {name: value.decode() for name, value in said.items()}
        headers = tuple(
            (str(name), None if value is None else base64.b64decode(value, validate=True))
            for name, value in json.loads(text["headers"])
        )
        return Letter(
            partition=record.partition,
            offset=record.offset,
            written_at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
            service=text["service"],
            topic=text["topic"],
            source_partition=int(text["partition"]),
            source_offset=int(text["offset"]),
            source_ms=int(text["timestamp-ms"]),
            error=text["error"],
            tries=int(text["tries"]),
            key=None if text["null-key"] == "true" else record.key or b"",
            value=None if text["null-value"] == "true" else record.value or b"",
            headers=headers,
            left_out=tuple(part for part in text.get("left-out", "").split(",") if part),
        )
    except (KeyError, ValueError, TypeError, OverflowError, OSError) as error:
        raise NotALetter(f"{record.partition}/{record.offset}: {type(error).__name__}") from error


def replayed(letter: Letter, names: TopicNames, *, runs: bool) -> Record | str:
    """The record to publish again, or why that is not done, as text; `runs`: also if it runs an attempt.

    A header says when it first arrived: a request that came in time does not expire for having been a dead letter.
    """
    topic = next((topic for topic in TOPICS if names.of(topic) == letter.topic and topic.groups), None)
    if topic is None:
        return f"{letter.topic} is no topic that a service of this Segue consumes"
    if letter.left_out:
        return f"the letter lacks the record's {' and '.join(letter.left_out)}, which did not fit into it"
    if letter.key is None or letter.value is None:
        return "the record had no key or no value, which no service can process"
    headers = tuple((name, value) for name, value in letter.headers if value is not None)
    if len(headers) != len(letter.headers):
        return "the record had a header without a value, which no service can process"
    if not runs and topic in COMMANDS.values() and _may_run(headers, letter.value):
        # A cancel that was read meanwhile found no such attempt, so that nothing would stop this one.
        return "it may run an attempt, which costs money although its job may have been cancelled: --runs publishes it"
    if all(name != REPLAYED for name, _ in headers):
        headers += ((REPLAYED, str(letter.source_ms).encode()),)
    return Record(topic.name, letter.key, letter.value, headers)


def _may_run(headers: tuple[tuple[str, bytes], ...], value: bytes) -> bool:
    """Whether a command runs an attempt, as far as this release can tell: another one may read it."""
    try:
        found = decode(headers, value)
    except Undecodable:
        return True
    return not isinstance(found, Envelope) or isinstance(found.message, RunAttempt)


async def read_letters(
    cluster: KafkaCluster, wanted: Callable[[Letter], bool], tell: Callable[[int], None]
) -> tuple[list[Letter], list[str]]:
    """The wanted ones of all letters that the topic holds now, oldest first, and the places of what is none.

    `tell` is called with how many records have been read, each time that some are. Raises KafkaError, also if there is
    no such topic, which it does not create.
    """
    never_create_topics()
    read_past_unreadable()
    name = cluster.names.of(DEAD_LETTERS)
    letters: list[Letter] = []
    others: list[str] = []
    read = 0
    consumer = AIOKafkaConsumer(
        name, auto_offset_reset="earliest", enable_auto_commit=False, **cluster.client_options()
    )
    try:
        await consumer.start()
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for place, records in (await consumer.getmany(timeout_ms=500, max_records=_BATCH)).items():
                read += len(records)
                tell(read)
                for record in records:
                    if record.offset >= ends[place]:
                        continue
                    try:
                        if wanted(letter := letter_of(record)):
                            letters.append(letter)
                    except NotALetter as error:
                        others.append(str(error))
    finally:
        await consumer.stop()
    return sorted(letters, key=lambda one: (one.written_at, one.partition, one.offset)), others
