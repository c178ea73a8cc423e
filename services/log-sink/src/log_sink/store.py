"""The sink's transactions: a batch of events and what they lead to, what Postgres refuses, how far it has read."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import asyncpg
from aiokafka import TopicPartition

from chassis.delivery.consumer import Delivered, LogStarts
from chassis.observability.logs import get_logger
from chassis.observability.telemetry import trace_id_of
from chassis.postgres.limits import LOOP_LIMIT_S, TRANSACTION_LIMIT_S, transaction
from chassis.postgres.pool import Connection, Pool
from log_sink.log_events import LogSinkEvent
from log_sink.metrics import MISSED, QUARANTINED, REPEATED, STORED
from log_sink.projection.event_rows import EVENT_COLUMNS, event_row, fits_jsonb
from log_sink.projection.upsert import arguments, upsert
from read_model.rows_from_events import reports
from read_model.tables import STATE, Row

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord


REFUSED: Final = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.IntegrityConstraintViolationError)
"""Postgres will not take this row, today or tomorrow."""
MAX_ERROR_CHARS: Final = 500

_TYPES: Final = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(EVENT_COLUMNS.values(), 1))
_NAMES: Final = ", ".join(EVENT_COLUMNS)
_INSERT: Final = f"""
INSERT INTO events ({_NAMES})
SELECT {_NAMES.replace("data", "data::jsonb")} FROM unnest({_TYPES}) WITH ORDINALITY AS event ({_NAMES}, place)
ORDER BY place
"""  # noqa: S608 - made of names in this package only
_KNOWN: Final = "SELECT event_id FROM events WHERE event_id = ANY($1::text[])"
_MEET: Final = """
INSERT INTO offsets (topic, kafka_partition)
SELECT * FROM unnest($1::text[], $2::integer[]) AS met (topic, kafka_partition) ORDER BY topic, kafka_partition
ON CONFLICT DO NOTHING
"""
_LOCK: Final = """
SELECT topic, kafka_partition, next_offset FROM offsets
WHERE (topic, kafka_partition) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
ORDER BY topic, kafka_partition FOR UPDATE
"""
# A topic made anew starts at 0. Any other step back is a repeat, perhaps by a consumer that has lost the partition.
_ADVANCE: Final = """
UPDATE offsets t SET updated_at = now(),
    next_offset = CASE WHEN span.first = 0 THEN span.past ELSE greatest(t.next_offset, span.past) END
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) AS span (topic, kafka_partition, first, past)
WHERE (t.topic, t.kafka_partition) = (span.topic, span.kafka_partition)
"""
_QUARANTINE: Final = """
INSERT INTO quarantine (topic, kafka_partition, kafka_offset, key, value, headers, error)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""

Partition = tuple[str, int]


class Store:
    """The sink's database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._log = get_logger("log_sink.store")

    async def store(self, batch: Sequence[Delivered]) -> None:
        """Store what is new in a batch, and merge it into the current state, in one transaction.

        What no jsonb can hold goes to the quarantine, all of the batch at once. Raises one of REFUSED, with nothing
        stored, if Postgres will not take a row for another reason.
        """
        try:
            await self._store(batch)
        except REFUSED as error:
            unfit = [delivered for delivered in batch if not fits_jsonb(delivered.record.value or b"")]
            if not unfit:
                raise
            await self._quarantine(unfit, error)
            kept = {id(delivered) for delivered in unfit}
            await self._store([delivered for delivered in batch if id(delivered) not in kept])

    async def _store(self, batch: Sequence[Delivered]) -> None:
        if not batch:
            return
        first = {delivered.event_id: delivered for delivered in reversed(batch)}
        async with transaction(self._pool, TRANSACTION_LIMIT_S) as connection:
            # A key lies in one partition, so whoever holds its lock alone decides whether an event is known.
            await _lock(connection, {(d.record.topic, d.record.partition) for d in batch})
            known = {row["event_id"] for row in await connection.fetch(_KNOWN, list(first))}
            fresh = [d for d in batch if first[d.event_id] is d and d.event_id not in known]
            if fresh:
                await _insert(connection, [event_row(delivered) for delivered in fresh])
                await _merge(connection, fresh)
        for delivered in fresh:
            STORED.labels(delivered.record.topic).inc()
        new = {id(delivered) for delivered in fresh}
        for repeated in (d for d in batch if id(d) not in new):
            REPEATED.labels(repeated.record.topic).inc()

    async def quarantine(self, poison: Delivered, error: Exception) -> bool:
        """Keep a message that Postgres refuses, whole; returns False for any other trouble with it."""
        if not isinstance(error, REFUSED):
            return False
        await self._quarantine([poison], error)
        return True

    async def _quarantine(self, refused: Sequence[Delivered], error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS].replace("\0", "\ufffd")
        why = why.encode("utf-8", "replace").decode()
        rows = [(*_place(delivered.record), *_whole(delivered.record), why) for delivered in refused]
        async with transaction(self._pool, LOOP_LIMIT_S) as connection:
            await connection.executemany(_QUARANTINE, rows)
        for delivered in refused:
            QUARANTINED.labels(delivered.record.topic).inc()
        topic, partition, offset = _place(refused[0].record)
        self._log.warning(
            LogSinkEvent.MESSAGES_QUARANTINED,
            count=len(refused),
            topic=topic,
            first_partition=partition,
            first_offset=offset,
            error=why,
        )

    async def note_read(self, records: Iterable[ConsumerRecord[bytes, bytes]], log_starts: LogStarts) -> None:
        """Remember how far each partition was read; what its log has lost before the first of `records` is a gap.

        An offset that is skipped and still in the log is no record: each transaction of a producer ends in a marker.
        """
        spans = _spans(records)
        async with transaction(self._pool, LOOP_LIMIT_S) as connection:
            expected = await _lock(connection, set(spans))
            topics, partitions = zip(*spans, strict=True)
            firsts, pasts = zip(*spans.values(), strict=True)
            await connection.execute(_ADVANCE, topics, partitions, firsts, pasts)
            # Before it is remembered: where this fails, all of it is tried again.
            gaps = await _gaps(spans, expected, log_starts)
        for place, (wanted, start) in gaps.items():
            MISSED.labels(place[0]).inc(start - wanted)
            self._log.warning(
                LogSinkEvent.RECORDS_MISSED,
                topic=place[0],
                partition=place[1],
                first_missing=wanted,
                next_read=spans[place][0],
            )


def _place(record: ConsumerRecord[bytes, bytes]) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def _whole(record: ConsumerRecord[bytes, bytes]) -> tuple[bytes | None, bytes | None, list[list[str | None]]]:
    headers: list[list[str | None]] = []
    for name, raw in record.headers:
        headers.append([name, None if raw is None else base64.b64encode(raw).decode()])
    return record.key, record.value, headers


async def _lock(connection: Connection, places: set[Partition]) -> dict[Partition, int | None]:
    topics, partitions = zip(*places, strict=True)
    await connection.execute(_MEET, topics, partitions)
    rows = await connection.fetch(_LOCK, topics, partitions)
    return {(row["topic"], row["kafka_partition"]): row["next_offset"] for row in rows}


async def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    await connection.execute(_INSERT, *([row.get(name) for row in rows] for name in EVENT_COLUMNS))


async def _merge(connection: Connection, batch: Iterable[Delivered]) -> None:
    rows: dict[str, list[Row]] = {table.name: [] for table in STATE}
    for delivered in batch:
        for table, row in reports(delivered.message, trace_id_of(delivered.traceparent)):
            rows[table.name].append(row)
    for table in STATE:
        if found := rows[table.name]:
            await connection.execute(upsert(table), *arguments(table, found))


async def _gaps(
    spans: Mapping[Partition, tuple[int, int]], expected: Mapping[Partition, int | None], log_starts: LogStarts
) -> dict[Partition, tuple[int, int]]:
    """Of which partitions records were gone before they were read, from which offset on and up to which."""
    skipped = {
        TopicPartition(*place): (wanted, first)
        for place, (first, _past) in spans.items()
        if (wanted := expected[place]) is not None and first > wanted
    }
    starts = await log_starts(skipped) if skipped else {}
    lost = {place: (wanted, min(first, starts.get(place, 0))) for place, (wanted, first) in skipped.items()}
    return {
        (place.topic, place.partition): (wanted, start) for place, (wanted, start) in lost.items() if start > wanted
    }


def _spans(records: Iterable[ConsumerRecord[bytes, bytes]]) -> dict[Partition, tuple[int, int]]:
    spans: dict[Partition, tuple[int, int]] = {}
    for record in records:
        place = (record.topic, record.partition)
        first, past = spans.get(place, (record.offset, record.offset + 1))
        spans[place] = (min(first, record.offset), max(past, record.offset + 1))
    return spans
