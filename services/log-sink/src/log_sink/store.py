"""The log sink's transactions: events with the current state, the quarantine, and the offsets that were read."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from aiokafka import TopicPartition

from chassis.delivery.consumer import Delivered
from chassis.delivery.offsets import LogStarts
from chassis.observability.logs import get_logger
from chassis.observability.telemetry import trace_id_of
from chassis.postgres.limits import LOOP_LIMIT_S, TRANSACTION_LIMIT_S, transaction
from chassis.postgres.polled_gauges import GaugeQuery
from chassis.postgres.pool import Connection, Pool
from log_sink.log_events import LogSinkEvent
from log_sink.metrics import MISSED, QUARANTINE_ROWS, QUARANTINED, REPEATED, STORED
from log_sink.projection.event_rows import EVENT_COLUMNS, event_row, fits_jsonb
from log_sink.projection.upsert import arguments, upsert
from read_model.merge import State, rows_of, with_reports
from read_model.rows_from_events import reports
from read_model.tables import STATE, Row, Table

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord


REFUSED: Final = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.IntegrityConstraintViolationError)
"""Errors by which PostgreSQL refuses a row permanently."""
MAX_ERROR_CHARS: Final = 500

_TYPES: Final = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(EVENT_COLUMNS.values(), 1))
_NAMES: Final = ", ".join(EVENT_COLUMNS)
_INSERT: Final = f"""
INSERT INTO events ({_NAMES})
SELECT {_NAMES.replace("data", "data::jsonb")} FROM unnest({_TYPES}) WITH ORDINALITY AS event ({_NAMES}, place)
ORDER BY place
"""  # noqa: S608 - consists of names in this package only
_KNOWN: Final = "SELECT event_id FROM events WHERE event_id = ANY($1::text[])"
_ADD_PARTITIONS: Final = """
INSERT INTO offsets (topic, kafka_partition)
SELECT * FROM unnest($1::text[], $2::integer[]) AS added (topic, kafka_partition) ORDER BY topic, kafka_partition
ON CONFLICT DO NOTHING
"""
# Locks the rows, and returns the next offset expected of each. A gap is passed only with $5. A topic that was created
# anew starts at 0; any other lower offset is a repeat, such as by a consumer that has lost the partition.
_ADVANCE: Final = """
WITH span AS (
    SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])
        AS read (topic, kafka_partition, first, past)
), held AS (
    SELECT topic, kafka_partition, o.next_offset, first, past FROM offsets o JOIN span USING (topic, kafka_partition)
    ORDER BY topic, kafka_partition FOR UPDATE OF o
)
UPDATE offsets t SET updated_at = now(), next_offset = CASE
    WHEN held.first > held.next_offset AND NOT $5::boolean THEN t.next_offset
    WHEN held.first = 0 THEN held.past
    ELSE greatest(t.next_offset, held.past)
END
FROM held WHERE (t.topic, t.kafka_partition) = (held.topic, held.kafka_partition)
RETURNING t.topic, t.kafka_partition, held.next_offset
"""
_QUARANTINE: Final = """
INSERT INTO quarantine (topic, kafka_partition, kafka_offset, key, value, headers, error)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""

QUARANTINE_GAUGE: Final = GaugeQuery("SELECT count(*) FROM quarantine", QUARANTINE_ROWS.set)
"""The number of messages in the quarantine."""

EVENTS_AT_ONCE: Final = 250
"""The most events of one statement: the next one is made meanwhile."""

Statement = tuple[str, Sequence[Sequence[Any]]]
"""A statement and its arguments."""
Partition = tuple[str, int]
Spans = Mapping[Partition, tuple[int, int]]
"""The lowest offset of each partition, and the one after the highest."""


class Store:
    """The log sink's database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._noted: Spans = {}
        """What `store` has noted as read since the last `note_read`."""
        self._log = get_logger("log_sink.store")

    async def store(self, batch: Sequence[Delivered], /) -> None:
        """Store the new events of a batch, the state that follows from them, and the offsets read, in one transaction.

        The offsets of a partition whose batch follows a gap are left to `note_read`. Messages that jsonb cannot store
        go to the quarantine, all of a batch together. Raises one of REFUSED, with nothing stored, if PostgreSQL refuses
        a row for another reason.
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
            # All events with one key are in one partition, so its lock makes the check for known events exclusive.
            spans = _spans(delivered.record for delivered in batch)
            expected = await _advance(connection, spans, past_gaps=False)
            known = {row["event_id"] for row in await connection.fetch(_KNOWN, list(first))}
            fresh = [d for d in batch if first[d.event_id] is d and d.event_id not in known]
            if fresh:
                await _execute_each(connection, _statements(fresh))
        gaps = _skipped(spans, expected)
        self._noted = _joined(self._noted, {place: span for place, span in spans.items() if place not in gaps})
        stored = Counter(delivered.record.topic for delivered in fresh)
        for topic, n in stored.items():
            STORED.labels(topic).inc(n)
        for topic, n in (Counter(delivered.record.topic for delivered in batch) - stored).items():
            REPEATED.labels(topic).inc(n)

    async def quarantine(self, poison: Delivered, error: Exception) -> bool:
        """Store a message that PostgreSQL refuses in the quarantine, unchanged; returns False for any other error."""
        if not isinstance(error, REFUSED):
            return False
        await self._quarantine([poison], error)
        return True

    async def _quarantine(self, refused: Sequence[Delivered], error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS].replace("\0", "\ufffd")
        reason = reason.encode("utf-8", "replace").decode()
        rows = [(*_position(delivered.record), *_content(delivered.record), reason) for delivered in refused]
        async with transaction(self._pool, LOOP_LIMIT_S) as connection:
            await connection.executemany(_QUARANTINE, rows)
        for delivered in refused:
            QUARANTINED.labels(delivered.record.topic).inc()
        topic, partition, offset = _position(refused[0].record)
        self._log.warning(
            LogSinkEvent.MESSAGES_QUARANTINED,
            count=len(refused),
            topic=topic,
            first_partition=partition,
            first_offset=offset,
            error=reason,
        )

    async def note_read(self, records: Iterable[ConsumerRecord[bytes, bytes]], log_starts: LogStarts) -> None:
        """Store how far each partition was read, and report records that were deleted before they were read.

        No transaction is made if `store` has noted all of them. A skipped offset that is still in the log is not a
        record: each transaction of a producer ends with a marker.
        """
        noted, self._noted = self._noted, {}
        spans = {place: span for place, span in _spans(records).items() if noted.get(place) != span}
        if not spans:
            return
        async with transaction(self._pool, LOOP_LIMIT_S) as connection:
            expected = await _advance(connection, spans, past_gaps=True)
            # Within the transaction: if it fails, the offsets are not stored, and the check is repeated.
            gaps = await _gaps(spans, expected, log_starts)
        for partition, (first_missing, start) in gaps.items():
            MISSED.labels(partition[0]).inc(start - first_missing)
            self._log.warning(
                LogSinkEvent.RECORDS_MISSED,
                topic=partition[0],
                partition=partition[1],
                first_missing=first_missing,
                next_read=spans[partition][0],
            )


def _position(record: ConsumerRecord[bytes, bytes]) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def _content(record: ConsumerRecord[bytes, bytes]) -> tuple[bytes | None, bytes | None, list[list[str | None]]]:
    headers: list[list[str | None]] = []
    for name, raw in record.headers:
        headers.append([name, None if raw is None else base64.b64encode(raw).decode()])
    return record.key, record.value, headers


async def _advance(connection: Connection, spans: Spans, *, past_gaps: bool) -> dict[Partition, int | None]:
    """Lock the rows of partitions and note `spans` as read; returns the next offset that was expected of each.

    None is that of a partition of which nothing has been read.
    """
    topics, partitions = zip(*spans, strict=True)
    firsts, pasts = zip(*spans.values(), strict=True)
    rows = await connection.fetch(_ADVANCE, topics, partitions, firsts, pasts, past_gaps)
    expected = {(row["topic"], row["kafka_partition"]): row["next_offset"] for row in rows}
    if added := {place: span for place, span in spans.items() if place not in expected}:
        await connection.execute(_ADD_PARTITIONS, *zip(*added, strict=True))
        expected |= await _advance(connection, added, past_gaps=past_gaps)
    return expected


async def _execute_each(connection: Connection, statements: Iterator[Statement]) -> None:
    """Execute statements in their order. Each is made while the server executes the one before it."""
    statement = next(statements, None)
    while statement is not None:
        query, values = statement
        executing = asyncio.create_task(connection.execute(query, *values))
        try:
            await asyncio.sleep(0)  # It is sent.
            statement = next(statements, None)
        except BaseException:
            executing.cancel()
            await asyncio.gather(executing, return_exceptions=True)
            raise
        await executing


def _statements(fresh: Sequence[Delivered]) -> Iterator[Statement]:
    """The statements that store new events, then those that merge the state that follows from them into the tables."""
    state: State = {}
    for first in range(0, len(fresh), EVENTS_AT_ONCE):
        part = fresh[first : first + EVENTS_AT_ONCE]
        yield _INSERT, list(zip(*map(event_row, part), strict=True))
        state = with_reports(state, _reports(part))
    for table in STATE:
        if rows := rows_of(state, table):
            yield upsert(table), arguments(table, rows.values())


def _reports(batch: Iterable[Delivered]) -> Iterator[tuple[Table, Row]]:
    for delivered in batch:
        yield from reports(delivered.message, trace_id_of(delivered.traceparent))


def _skipped(spans: Spans, expected: Mapping[Partition, int | None]) -> dict[Partition, tuple[int, int]]:
    """The offsets that were expected and not read, by partition: the first one, and the one after the last."""
    return {
        place: (next_offset, first)
        for place, (first, _past) in spans.items()
        if (next_offset := expected[place]) is not None and first > next_offset
    }


async def _gaps(
    spans: Spans, expected: Mapping[Partition, int | None], log_starts: LogStarts
) -> dict[Partition, tuple[int, int]]:
    """The partitions with records that were deleted before they were read: the first such offset, and the end."""
    skipped = {TopicPartition(*place): offsets for place, offsets in _skipped(spans, expected).items()}
    starts = await log_starts(skipped) if skipped else {}
    lost = {each: (begin, min(first, starts.get(each, 0))) for each, (begin, first) in skipped.items()}
    return {(each.topic, each.partition): (begin, end) for each, (begin, end) in lost.items() if end > begin}


def _spans(records: Iterable[ConsumerRecord[bytes, bytes]]) -> Spans:
    offsets: dict[Partition, list[int]] = {}
    for record in records:
        offsets.setdefault((record.topic, record.partition), []).append(record.offset)
    return {place: (min(found), max(found) + 1) for place, found in offsets.items()}


def _joined(one: Spans, other: Spans) -> Spans:
    both = {place: (one[place], other[place]) for place in one.keys() & other.keys()}
    return {**one, **other} | {place: (min(a[0], b[0]), max(a[1], b[1])) for place, (a, b) in both.items()}
