"""The outbox: a transaction's messages are published if and only if it commits, at once or by the relay after a crash.

A row is deleted when every in-sync replica has its record, together with others, within half a second. After a crash
between the two it is published again; consumers drop the duplicate.

A row has its topic's name in the topic map. The prefix of the cluster's names is put before it when it is published, so
that a row that waits while the prefix changes goes to the topic that is consumed now.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Final
from uuid import UUID

import asyncpg
from opentelemetry.trace import Span

from chassis.kafka.broker import TOO_LARGE, SegueBroker, missed_topics
from chassis.kafka.producer.lanes import publish_all
from chassis.observability.log_events import KafkaEvent
from chassis.observability.logs import get_logger
from chassis.observability.metrics import OUTBOX_PUBLISHED
from chassis.observability.telemetry import end_sending
from chassis.postgres.limits import LOOP_LIMIT_S, STOPPING_LIMIT_S, TRANSACTION_LIMIT_S, bounded, leased, transaction
from chassis.postgres.pool import TRANSIENT, Connection, Pool
from chassis.runtime.background import background
from chassis.runtime.dependencies import Dependency, failed_with
from chassis.runtime.runtime import Runtime
from contracts.envelope import Record, encode
from contracts.messages.base import Message
from contracts.topics import topic_for

RELAY_AGE_S: Final = 5.0
"""A row of this age, in seconds, was left by a crash, or by a publisher that is too slow."""
DELETE_AFTER_S: Final = 0.5
"""How long a published row waits for others, so that one statement deletes them all."""
MAX_IN_FLIGHT: Final = 20_000
BATCH: Final = 2_000
PUBLISH_LIMIT_S: Final = 20.0
PASS_S: Final = 1.0
"""How long the next rows wait for Kafka to confirm those before them, in seconds: their partitions may be others."""

_INSERT = """
INSERT INTO outbox (topic, key, value, headers, event_id)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::jsonb[], $5::uuid[])
ON CONFLICT (event_id) DO NOTHING RETURNING id, event_id
"""
_PARK = "UPDATE outbox SET created_at = 'infinity' WHERE id = ANY($1::bigint[])"
_LEFT_BEHIND = """
SELECT id, topic, key, value, headers FROM outbox
WHERE created_at < now() - make_interval(secs => $1) AND id <> ALL($2::bigint[]) AND topic <> ALL($4::text[])
ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
"""


@dataclass(slots=True)
class Transaction:
    """One PostgreSQL transaction, with the messages to publish and the callbacks to run once it is committed."""

    connection: Connection
    now: datetime
    began: float
    """A time just before `now`, in seconds of `time.monotonic`."""
    _messages: list[tuple[Message, str | None]] = field(default_factory=list)
    _after: list[Callable[[], None]] = field(default_factory=list)

    def emit(self, message: Message, traceparent: str | None) -> None:
        """Publish `message` once the transaction is committed."""
        self._messages.append((message, traceparent))

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the transaction is committed."""
        self._after.append(callback)


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    record: Record
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class _Sent:
    """The result of publishing rows, by their ids, with the first error that may be temporary."""

    done: list[int]
    never: list[int]
    failed: Exception | None


class Outbox:
    """A service's outbox: transactions that emit messages, the publisher, and the relay."""

    def __init__(self, pool: Pool, broker: SegueBroker, runtime: Runtime) -> None:
        self._pool = pool
        self._broker = broker
        self._runtime = runtime
        self._pending: list[_Row] = []
        self._published: list[_Sent] = []
        self._in_flight: set[int] = set()
        """Rows to be published or deleted here, which the relay leaves alone."""
        self._wake = asyncio.Event()
        self._some_published = asyncio.Event()
        self._draining = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._seen = Dependency()
        self._log = get_logger("chassis.kafka.outbox")

    @asynccontextmanager
    async def transaction(self, within_s: float = TRANSACTION_LIMIT_S) -> AsyncIterator[Transaction]:
        """A transaction on the pool; what it emits is committed with it and published right after.

        Raises TimeoutError if it takes longer than `within_s`, or 5 s after the process began to stop.
        """
        limit_s = min(within_s, STOPPING_LIMIT_S) if self._runtime.stopping.is_set() else within_s
        async with leased(self._pool, limit_s) as lease:
            began = monotonic()
            async with lease.transaction():
                begun = Transaction(lease.connection, await lease.connection.fetchval("SELECT now()"), began)
                yield begun
                rows = await self._insert(lease.connection, begun._messages)
            self._hand_over(rows)
            for callback in begun._after:
                callback()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publish and relay for as long as the block lasts; on leaving, publish what is still pending.

        Consumers run inside the block, so that the messages of their last batch are published too.
        """
        self._runtime.depends_on("outbox", self._seen)
        async with (
            background(self._runtime, "the outbox publisher", self._publish_pending()),
            background(self._runtime, "the outbox sweeper", self._delete_published()),
        ):
            try:
                async with background(self._runtime, "the outbox relay", self._relay()):
                    yield
            finally:
                await self._drain()

    async def _insert(self, connection: Connection, messages: list[tuple[Message, str | None]]) -> list[_Row]:
        if not messages:
            return []
        made: dict[UUID, tuple[Record, Span | None]] = {}
        for message, traceparent in messages:
            if (event_id := message.event_id) not in made:
                made[event_id] = self._record(message, traceparent)
        records = [record for record, _ in made.values()]
        inserted = await connection.fetch(
            _INSERT,
            [record.topic for record in records],
            [record.key for record in records],
            [record.value for record in records],
            [{name: value.decode() for name, value in record.headers} for record in records],
            list(made),
        )
        return [_Row(row["id"], *made[row["event_id"]]) for row in inserted]

    def _record(self, message: Message, traceparent: str | None) -> tuple[Record, Span | None]:
        telemetry, topic = self._runtime.telemetry, topic_for(message).name
        sent, span = telemetry.sending(topic, parent=traceparent, job_id=message.job_id, event_type=message.TYPE)
        return encode(message, source=self._runtime.service, traceparent=sent), span

    def _hand_over(self, rows: list[_Row]) -> None:
        if len(self._in_flight) + len(rows) > MAX_IN_FLIGHT:
            end_sending({row.id: row.span for row in rows}, set())
            return  # Kafka is unavailable; the relay publishes the rows later.
        self._pending.extend(rows)
        if rows:
            self._in_flight.update(row.id for row in rows)
            self._idle.clear()
            self._wake.set()

    async def _publish_pending(self) -> None:
        async with asyncio.TaskGroup() as passes:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._pending:
                    rows, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                    handed_over = asyncio.Event()
                    await asyncio.wait([passes.create_task(self._publish(rows, handed_over))], timeout=PASS_S)
                    await handed_over.wait()  # So no later row of a key is handed over before.

    async def _publish(self, rows: Sequence[_Row], handed_over: asyncio.Event) -> None:
        try:
            sent = await self._send(rows, handed_over.set)
        except Exception as error:  # noqa: BLE001 - whatever the error, the rows stay and the relay tries again
            sent = _Sent([], [], error)
        handed_over.set()
        self._note(sent)
        end_sending({row.id: row.span for row in rows}, set(sent.done))
        self._published.append(sent)
        self._some_published.set()
        self._leave_to_relay({row.id for row in rows} - set(sent.done) - set(sent.never))
        if sent.failed is not None:
            self._log.warning(KafkaEvent.OUTBOX_PUBLISH_FAILED, rows=len(rows), error=repr(sent.failed))
            await self._runtime.pause(0.5)

    async def _delete_published(self) -> None:
        while True:
            await self._some_published.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(DELETE_AFTER_S):
                    await self._draining.wait()
            self._some_published.clear()
            published, self._published = self._published, []
            done = [row_id for sent in published for row_id in sent.done]
            never = [row_id for sent in published for row_id in sent.never]
            try:
                async with bounded(self._pool, LOOP_LIMIT_S) as connection:
                    await self._settle(_Sent(done, never, None), connection)
            except Exception as error:  # noqa: BLE001 - whatever the error, the rows stay and are published once more
                self._log.warning(KafkaEvent.OUTBOX_PUBLISH_FAILED, rows=len(done), error=repr(error))
            finally:
                self._leave_to_relay({*done, *never})

    def _leave_to_relay(self, rows: set[int]) -> None:
        """What is still there of these rows is the relay's."""
        self._in_flight.difference_update(rows)
        if not self._in_flight:
            self._idle.set()

    async def _send(self, rows: Sequence[_Row], handed_over: Callable[[], None] = lambda: None) -> _Sent:
        outcomes = await publish_all(self._broker, [row.record for row in rows], PUBLISH_LIMIT_S, handed_over)
        told = list(zip((row.id for row in rows), outcomes, strict=True))
        return _Sent(
            done=[row_id for row_id, outcome in told if outcome is None],
            never=[row_id for row_id, outcome in told if isinstance(outcome, TOO_LARGE)],
            failed=next((error for error in outcomes if error and not isinstance(error, TOO_LARGE)), None),
        )

    async def _settle(self, sent: _Sent, connection: Connection) -> None:
        """Delete published rows. A row that Kafka can never accept is kept for inspection and not retried."""
        await connection.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", sent.done)
        OUTBOX_PUBLISHED.inc(len(sent.done))
        if sent.never:
            self._log.critical(KafkaEvent.OUTBOX_ROWS_REJECTED, ids=sent.never)
            await connection.execute(_PARK, sent.never)

    async def _relay(self) -> None:
        while await self._runtime.pause(RELAY_AGE_S / 2):
            try:
                while await self._relay_once() == BATCH:
                    pass
            except TRANSIENT as error:
                self._seen.fails(failed_with(error))
                self._log.warning(KafkaEvent.OUTBOX_RELAY_POSTPONED, error=repr(error))
            except Exception as error:  # noqa: BLE001 - Kafka's errors have many classes; the rows stay
                self._seen.fails(failed_with(error))
                self._log.warning(KafkaEvent.OUTBOX_RELAY_FAILED, error=repr(error))

    async def _relay_once(self) -> int:
        async with transaction(self._pool, PUBLISH_LIMIT_S + LOOP_LIMIT_S) as connection:
            # Rows of a topic that stays missing would fill every batch; they are tried every other time.
            missed = missed_topics(self._broker, RELAY_AGE_S)
            found = await connection.fetch(_LEFT_BEHIND, RELAY_AGE_S, list(self._in_flight), BATCH, missed)
            if not found:
                if not missed and not self._in_flight:
                    self._seen.works()
                return 0
            rows = [_row(row) for row in found]
            sent = await self._send(rows)
            self._note(sent)
            await self._settle(sent, connection)
            if sent.failed is not None:
                # Published rows are deleted all the same: the transaction commits, and the rest is retried.
                self._log.warning(KafkaEvent.OUTBOX_RELAY_INCOMPLETE, error=repr(sent.failed))
                return 0
            self._log.info(KafkaEvent.OUTBOX_RELAYED, rows=len(rows))
            return len(rows)

    def _note(self, sent: _Sent) -> None:
        if sent.failed is not None:
            self._seen.fails(failed_with(sent.failed))
        elif sent.done:
            self._seen.works()

    async def _drain(self) -> None:
        self._draining.set()
        try:
            async with asyncio.timeout(5):
                await self._idle.wait()
        except TimeoutError:
            self._log.warning(KafkaEvent.OUTBOX_NOT_DRAINED, rows=len(self._in_flight))


def _row(row: asyncpg.Record) -> _Row:
    headers = tuple((name, value.encode()) for name, value in row["headers"].items())
    return _Row(row["id"], Record(row["topic"], row["key"], row["value"], headers))
