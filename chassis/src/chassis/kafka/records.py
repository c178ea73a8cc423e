"""Reading past records that Kafka's client cannot read.

aiokafka 0.14 raises in its poll if the name of a header is not UTF-8, or if a batch is compressed with a codec that is
not installed or cannot be decompressed. It raises again at every retry, and records that the poll had already taken
from other partitions are lost. It also decompresses a batch of any size into memory. Here such a batch ends early, and
an Unreadable takes the place of each missing record.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import aiokafka.consumer.fetcher
import aiokafka.record.default_records
import aiokafka.record.legacy_records
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError

from contracts.topics import MAX_MESSAGE_BYTES

Records = tuple["ConsumerRecord[bytes, bytes]", ...]

MAX_BATCH_BYTES: Final = 16 * MAX_MESSAGE_BYTES
"""The largest decompressed size of a batch, in bytes: a few megabytes of zeros fit into a few kilobytes."""

_TURN_BYTES: Final = 256 * 1024


class BatchTooLarge(Exception):
    """A batch is larger than MAX_BATCH_BYTES when decompressed."""


@dataclass
class Unreadable(ConsumerRecord[bytes, bytes]):
    """Takes the place of a record of which only the topic, partition and offset are known."""

    why: str = ""


def read_past_unreadable() -> None:
    """Have this process's consumers return an Unreadable where they would raise."""
    setattr(aiokafka.consumer.fetcher, "PartitionRecords", _ReadableRecords)  # noqa: B010 - mypy refuses this
    for module in _codec_users():
        setattr(module, "gzip_decode", gunzip)  # noqa: B010


def gunzip(payload: bytes | memoryview) -> bytes:
    """The decompressed payload. Raises BatchTooLarge, or zlib.error."""
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    inflated = inflate.decompress(payload, MAX_BATCH_BYTES + 1)
    if len(inflated) > MAX_BATCH_BYTES:
        raise BatchTooLarge
    return inflated


async def in_turns(records: Records) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """The records one by one; the event loop's other tasks run in between, since decoding large ones takes time."""
    taken = 0
    for record in records:
        yield record
        taken += len(record.value or b"")
        if taken > _TURN_BYTES:
            taken = 0
            await asyncio.sleep(0)


def _codec_users() -> Iterator[Any]:
    yield aiokafka.record.default_records
    yield aiokafka.record.legacy_records
    try:
        from aiokafka.record._crecords import default_records, legacy_records
    except ImportError:  # Built without its extensions, it uses the two above.
        return
    yield default_records
    yield legacy_records


_WHY: Final[dict[type[Exception], str]] = {
    UnicodeDecodeError: "the name of a header, here or before it in its batch, is no UTF-8",
    UnsupportedCodecError: "its batch is compressed with a codec that is not installed here",
    BatchTooLarge: f"its batch holds more than {MAX_BATCH_BYTES} bytes once decompressed",
    zlib.error: "its batch cannot be decompressed",
    CorruptRecordException: "its batch is not as Kafka's format wants it",
}


class _Batches:
    """aiokafka's batches, the current one first."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.current: Any = None

    def has_next(self) -> bool:
        return bool(self._batches.has_next())

    def next_batch(self) -> Any:
        self.current = self._batches.next_batch()
        return self.current


class _ReadableRecords(PartitionRecords):
    def __init__(self, tp: TopicPartition, records: Any, *rest: Any) -> None:
        self._batches = _Batches(records)
        self._missing: Iterator[Unreadable] = iter(())
        super().__init__(tp, self._batches, *rest)  # type: ignore[no-untyped-call] # aiokafka's

    def __next__(self) -> ConsumerRecord[bytes, bytes]:
        if (missing := next(self._missing, None)) is not None:
            self.next_fetch_offset = missing.offset + 1
            return missing
        try:
            record: ConsumerRecord[bytes, bytes] = super().__next__()  # type: ignore[no-untyped-call] # aiokafka's
        except tuple(_WHY) as error:
            if isinstance(error, CorruptRecordException) and "CRC" in str(error):
                raise  # Damaged in transfer or on a disk: the next fetch may return it intact.
            offsets = range(self.next_fetch_offset, self._batches.current.next_offset)
            why = next(why for kind, why in _WHY.items() if isinstance(error, kind))
            self._missing = (_unreadable(self._tp, offset, why) for offset in offsets)
            # The next batch may be as it should.
            self._records_iterator = self._unpack_records()  # type: ignore[no-untyped-call] # aiokafka's
            return next(self)
        return record


def _unreadable(partition: TopicPartition, offset: int, why: str) -> Unreadable:
    return Unreadable(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=-1,
        timestamp_type=0,
        key=None,
        value=None,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        headers=(),
        why=why,
    )
