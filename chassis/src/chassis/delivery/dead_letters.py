"""Dead letters: the complete message that could not be processed, with its source and the error, for later replay."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from chassis.kafka.broker import (
    PRODUCER_BATCH_BYTES,
    TOO_LARGE,
    SegueBroker,
    client_of,
    publish_batch,
    require_known,
)
from chassis.observability.log_events import DeliveryEvent
from chassis.observability.logs import get_logger
from contracts.envelope import Record
from contracts.topics import DEAD_LETTERS, MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

Part = Literal["headers", "value", "key"]
EVERYTHING: Final[tuple[Part, ...]] = ("headers", "value", "key")
_LEAVING_OUT: Final[dict[tuple[Part, ...], tuple[Part, ...]]] = {(): ("headers",), ("headers",): EVERYTHING}
"""The parts to leave out next, by the parts that are left out of a letter that is still too large."""
MAX_REASON_CHARS: Final = 1000
PUBLISH_LIMIT_S: Final = 20.0
_OVERHEAD_BYTES: Final = 1024
"""Upper bound of what Kafka adds to a batch of records, in bytes."""
_RECORD_BYTES: Final = 64
"""Upper bound of what Kafka adds to each record of a batch, in bytes."""
_log = get_logger("chassis.delivery.consumer")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be processed, and the reason."""

    record: ConsumerRecord[bytes, bytes]
    error: str
    tries: int
    """How many times the handler was called with it; 0 if it cannot be decoded."""
    kept: bool = False
    """The service has stored it elsewhere, so it is counted but not published."""
    left_out: tuple[Part, ...] = ()
    """Parts of the record that do not fit into the letter or cannot be read."""


class DeadLetterPublisher:
    """Publishes letters in batches. Called again after a failure, it sends only the batches not yet stored."""

    def __init__(self, broker: SegueBroker, letters: Sequence[DeadLetter], service: str) -> None:
        self._broker = broker
        self._service = service
        self._batches = list(_batches(letters, service))

    async def __call__(self) -> None:
        """Publish and wait until all are stored. Raises KafkaError, or TimeoutError after 20 s.

        The topic may be configured with a lower size limit: a batch that is refused as too large is sent in smaller
        pieces.
        """
        async with asyncio.timeout(PUBLISH_LIMIT_S):
            while True:
                for batch in self._batches:
                    # A batch that is still in progress is not sent again: the producer itself retries through an
                    # outage.
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
        name = self._broker.cluster.names.of(DEAD_LETTERS)
        partitions = sorted(await client_of(self._broker).partitions_for(name))
        # The key does not choose the partition: it may be any bytes, and as long as a record may be.
        partition = partitions[place % len(partitions)]
        return await publish_batch(self._broker, records, DEAD_LETTERS.name, partition)


@dataclass(slots=True)
class _Batch:
    """Letters that are sent together."""

    place: int
    letters: list[DeadLetter]
    sent: asyncio.Future[Any] | None = None

    def smaller(self) -> list[_Batch]:
        """The same letters in two batches, or one letter with a part left out. Raises the broker's error if neither."""
        if (middle := len(self.letters) // 2) > 0:
            return [_Batch(self.place, self.letters[:middle]), _Batch(self.place, self.letters[middle:])]
        (letter,) = self.letters
        if letter.left_out == EVERYTHING and self.sent is not None:
            self.sent.result()
        return [_Batch(self.place, [replace(letter, left_out=_LEAVING_OUT.get(letter.left_out, EVERYTHING))])]


def _batches(letters: Sequence[DeadLetter], service: str) -> Iterator[_Batch]:
    """Batches of letters, by the partition of their source records, each within the producer's size limit."""
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
    """The letter as published: the original value and key, and everything else in headers.

    A letter contains more than its message and may exceed Kafka's size limit. It then leaves out the message's headers,
    or the value and key as well, and lists what is missing. The source topic, partition and offset are always included.
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
    """Log the dead letters of a batch: one record for each error type and topic, with the first letter as example."""
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
