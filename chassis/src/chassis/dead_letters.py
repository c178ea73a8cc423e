"""Dead letters: what could not be processed, whole, with where it came from and why, so that it can be replayed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from chassis.broker import PRODUCER_BATCH_BYTES, client_of, require_known
from contracts.envelope import Record
from contracts.topics import DEAD_LETTERS, MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord
    from faststream.kafka import KafkaBroker

Part = Literal["headers", "value", "key"]
EVERYTHING: Final[tuple[Part, ...]] = ("headers", "value", "key")
MAX_REASON_CHARS: Final = 1000
PUBLISH_LIMIT_S: Final = 20.0
_OVERHEAD_BYTES: Final = 1024
"""What Kafka itself adds to a batch of records, generously."""
_RECORD_BYTES: Final = 64
"""What Kafka itself adds to each record of a batch, generously."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record nobody could process, and why."""

    record: ConsumerRecord[bytes, bytes]
    error: str
    tries: int
    """How often the handler was given it; 0: it cannot be decoded."""
    kept: bool = False
    """The service has kept it in a place of its own, so it is counted but not published."""
    left_out: tuple[Part, ...] = ()
    """Parts of the record that do not fit into a letter, or that nobody could read."""


class DeadLetterPublisher:
    """Publishes letters in batches; called again after it failed, only the batches that have not arrived."""

    def __init__(self, broker: KafkaBroker, letters: Sequence[DeadLetter], service: str) -> None:
        self._broker = broker
        self._batches = list(_batches(letters, service))
        self._sent: dict[int, asyncio.Future[Any]] = {}

    async def __call__(self) -> None:
        """Publish and wait until all have arrived. Raises KafkaError, or TimeoutError after 20 s."""
        async with asyncio.timeout(PUBLISH_LIMIT_S):
            for n, (place, records) in enumerate(self._batches):
                # One that is still under way is not sent again: the producer goes on trying through an outage.
                if n not in self._sent or _failed(self._sent[n]):
                    self._sent[n] = await self._send(place, records)
            await asyncio.gather(*map(asyncio.shield, self._sent.values()))

    async def _send(self, place: int, records: Sequence[Record]) -> asyncio.Future[Any]:
        await require_known(self._broker, DEAD_LETTERS.name)
        producer = client_of(self._broker)
        partitions = sorted(await producer.partitions_for(DEAD_LETTERS.name))
        batch = producer.create_batch()
        for record in records:
            batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
        batch.close()
        # Not by the key: it may be anything, and as long as a record may be.
        partition = partitions[place % len(partitions)]
        sent: asyncio.Future[Any] = await producer.send_batch(batch, DEAD_LETTERS.name, partition=partition)
        return sent


def _batches(letters: Sequence[DeadLetter], service: str) -> Iterator[tuple[int, list[Record]]]:
    """The letters' records, by the partition their sources lay in, in pieces that the producer takes as one batch."""
    open_batches: dict[int, tuple[int, list[Record]]] = {}
    for letter in letters:
        place = letter.record.partition
        record = to_record(letter, service)
        more = _size(record)
        size, records = open_batches.get(place, (0, []))
        if records and size + more > PRODUCER_BATCH_BYTES - _OVERHEAD_BYTES:
            yield place, records
            size, records = 0, []
        records.append(record)
        open_batches[place] = (size + more, records)
    for place, (_, records) in open_batches.items():
        yield place, records


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


def to_record(letter: DeadLetter, service: str) -> Record:
    """The letter as it is published: value and key as they were, everything else in headers.

    A letter may outgrow what Kafka takes, as it says more than its message did. It then goes without the message's
    headers, or without its value and key as well, and says so: where they lie it tells in any case.
    """
    whole = _record(letter, service)
    if _fits(whole):
        return whole
    bare = _record(replace(letter, left_out=("headers",)), service)
    if _fits(bare):
        return bare
    return _record(replace(letter, left_out=EVERYTHING), service)


def _record(letter: DeadLetter, service: str) -> Record:
    source = letter.record
    left_out = letter.left_out
    kept = () if "headers" in left_out else source.headers
    original = [[name, None if value is None else base64.b64encode(value).decode()] for name, value in kept]
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
    if left_out:
        headers["dead-letter-left-out"] = ",".join(left_out)
    return Record(
        topic=DEAD_LETTERS.name,
        key=b"" if "key" in left_out else source.key or b"",
        value=b"" if "value" in left_out else source.value or b"",
        headers=tuple((name, value.encode()) for name, value in headers.items()),
    )


def _fits(record: Record) -> bool:
    return _size(record) + _OVERHEAD_BYTES <= MAX_MESSAGE_BYTES


def _size(record: Record) -> int:
    headers = 0
    for name, value in record.headers:
        headers += len(name) + len(value) + 10
    return len(record.key) + len(record.value) + headers + _RECORD_BYTES


def _printable(text: str) -> str:
    return text[:MAX_REASON_CHARS].encode("utf-8", "replace").decode()
