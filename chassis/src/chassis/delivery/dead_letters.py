"""Dead letters: what could not be processed, whole, with where it came from and why, so that it can be replayed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from aiokafka import TopicPartition

from chassis.kafka.broker import PRODUCER_BATCH_BYTES, TOO_LARGE, client_of, publish_batch, require_known
from chassis.observability.log_events import DeliveryEvent
from chassis.observability.logs import get_logger
from contracts.envelope import Record
from contracts.topics import DEAD_LETTERS, MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord
    from faststream.kafka import KafkaBroker

Part = Literal["headers", "value", "key"]
EVERYTHING: Final[tuple[Part, ...]] = ("headers", "value", "key")
_LEAVING_OUT: Final[dict[tuple[Part, ...], tuple[Part, ...]]] = {(): ("headers",), ("headers",): EVERYTHING}
"""What a letter goes without next, where it is too large with what it goes without now."""
MAX_REASON_CHARS: Final = 1000
PUBLISH_LIMIT_S: Final = 20.0
_OVERHEAD_BYTES: Final = 1024
"""What Kafka itself adds to a batch of records, generously."""
_RECORD_BYTES: Final = 64
"""What Kafka itself adds to each record of a batch, generously."""
_log = get_logger("chassis.delivery.consumer")


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
        self._service = service
        self._batches = list(_batches(letters, service))

    async def __call__(self) -> None:
        """Publish and wait until all have arrived. Raises KafkaError, or TimeoutError after 20 s.

        The topic may take less than it was made to take: what it refuses as too large goes in smaller pieces.
        """
        async with asyncio.timeout(PUBLISH_LIMIT_S):
            while True:
                for batch in self._batches:
                    # One that is still under way is not sent again: the producer goes on trying through an outage.
                    if batch.sent is None or _failed(batch.sent):
                        batch.sent = await self._send(
                            batch.place, [to_record(one, self._service) for one in batch.letters]
                        )
                under_way = [asyncio.shield(batch.sent) for batch in self._batches if batch.sent is not None]
                outcomes = await asyncio.gather(*under_way, return_exceptions=True)
                for error in outcomes:
                    if isinstance(error, BaseException) and not isinstance(error, TOO_LARGE):
                        raise error
                refused = [isinstance(outcome, TOO_LARGE) for outcome in outcomes]
                if not any(refused):
                    return
                pairs = zip(self._batches, refused, strict=True)
                self._batches = [piece for batch, no in pairs for piece in (batch.smaller() if no else [batch])]

    async def _send(self, place: int, records: Sequence[Record]) -> asyncio.Future[Any]:
        await require_known(self._broker, DEAD_LETTERS.name)
        partitions = sorted(await client_of(self._broker).partitions_for(DEAD_LETTERS.name))
        # Not by the key: it may be anything, and as long as a record may be.
        partition = partitions[place % len(partitions)]
        return await publish_batch(self._broker, records, TopicPartition(DEAD_LETTERS.name, partition))


@dataclass(slots=True)
class _Batch:
    """Letters that are sent together."""

    place: int
    letters: list[DeadLetter]
    sent: asyncio.Future[Any] | None = None

    def smaller(self) -> list[_Batch]:
        """The same letters in two pieces; one alone goes without a part of its record. Raises what refused it."""
        if (middle := len(self.letters) // 2) > 0:
            return [_Batch(self.place, self.letters[:middle]), _Batch(self.place, self.letters[middle:])]
        (letter,) = self.letters
        if letter.left_out == EVERYTHING and self.sent is not None:
            self.sent.result()
        return [_Batch(self.place, [replace(letter, left_out=_LEAVING_OUT.get(letter.left_out, EVERYTHING))])]


def _batches(letters: Sequence[DeadLetter], service: str) -> Iterator[_Batch]:
    """The letters, by the partition their sources lay in, in pieces that the producer takes as one batch."""
    open_batches: dict[int, tuple[int, list[DeadLetter]]] = {}
    for letter in letters:
        place = letter.record.partition
        more = _size(to_record(letter, service))
        size, together = open_batches.get(place, (0, []))
        if together and size + more > PRODUCER_BATCH_BYTES - _OVERHEAD_BYTES:
            yield _Batch(place, together)
            size, together = 0, []
        together.append(letter)
        open_batches[place] = (size + more, together)
    for place, (_, together) in open_batches.items():
        yield _Batch(place, together)


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


def log_dead_letters(dead: Sequence[DeadLetter], group: str) -> None:
    """Log a batch's dead letters: one record for each kind of error on each topic, with the first as the example."""
    kinds = Counter((letter.record.topic, _kind(letter)) for letter in dead)
    firsts = {(letter.record.topic, _kind(letter)): letter for letter in reversed(dead)}
    for (topic, kind), count in kinds.items():
        first = firsts[topic, kind]
        _log.warning(
            DeliveryEvent.DEAD_LETTERED,
            group=group,
            topic=topic,
            kind=kind,
            count=count,
            first_partition=first.record.partition,
            first_offset=first.record.offset,
            first_error=first.error,
        )


def _kind(letter: DeadLetter) -> str:
    return letter.error.partition(":")[0]
