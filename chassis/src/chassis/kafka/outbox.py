"""The outbox: a transaction's messages are published if and only if it commits, at once or by the relay after a crash.

Messages that are not awaited, which only report what goes on, are published with the next that is, or after 0.1 s.

A row is deleted once every in-sync replica has its record: by the relay's next pass, or within half a second if many
rows were published. After a crash between the two it is published again; consumers drop the duplicate.

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

from chassis.kafka.broker import SegueBroker, missed_topics
from chassis.kafka.producer.sending import Row, Sent, send
from chassis.observability.log_events import KafkaEvent
from chassis.observability.logs import get_logger
from chassis.observability.metrics import OUTBOX_PUBLISHED
from chassis.observability.telemetry import end_sending
from chassis.postgres import outbox_rows
from chassis.postgres.limits import LOOP_LIMIT_S, STOPPING_LIMIT_S, TRANSACTION_LIMIT_S, bounded, leased, transaction
from chassis.postgres.opening import Opening, opened
from chassis.postgres.pool import TRANSIENT, Connection, Pool
from chassis.runtime.background import background
from chassis.runtime.dependencies import Dependency, failed_with
from chassis.runtime.runtime import Runtime
from contracts.envelope import Record, encode
from contracts.messages.base import Message
from contracts.topics import topic_for

LINGER_S: Final = 0.1
"""How long messages that are not awaited wait for others, in seconds: as long as the log sink's brokers gather."""
RELAY_AGE_S: Final = 5.0
"""A row of this age, in seconds, was left by a crash, or by a publisher that is too slow."""
DELETE_SOON: Final = 500
"""From this number on, published rows are deleted without waiting for the relay's next pass."""
DELETE_AFTER_S: Final = 0.5
"""How long so many rows wait for others, so that one statement deletes them all."""
MAX_IN_FLIGHT: Final = 20_000
BATCH: Final = 2_000
PUBLISH_LIMIT_S: Final = 20.0
PASS_S: Final = 1.0
"""How long the next rows wait for Kafka to confirm those before them, in seconds: their partitions may be others."""


@dataclass(slots=True)
class Transaction:
    """One PostgreSQL transaction, with the messages to publish and the callbacks to run once it is committed."""

    connection: Connection
    now: datetime
    began: float
    """A time just before `now`, in seconds of `time.monotonic`."""
    opened: Sequence[asyncpg.Record] = ()
    """The rows of its opening, if it has one."""
    _messages: list[tuple[Message, str | None]] = field(default_factory=list)
    _after: list[Callable[[], None]] = field(default_factory=list)

    def emit(self, message: Message, traceparent: str | None) -> None:
        """Publish `message` once the transaction is committed."""
        self._messages.append((message, traceparent))

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the transaction is committed."""
        self._after.append(callback)


class Outbox:
    """A service's outbox: transactions that emit messages, the publisher, and the relay."""

    def __init__(self, pool: Pool, broker: SegueBroker, runtime: Runtime) -> None:
        self._pool = pool
        self._broker = broker
        self._runtime = runtime
        self._pending: list[Row] = []
        self._published: list[int] = []
        """Rows to be deleted."""
        self._rejected: list[int] = []
        """Rows that Kafka can never accept."""
        self._in_flight: set[int] = set()
        """Rows to be published or deleted here, which the relay leaves alone."""
        self._wake = asyncio.Event()
        self._delete_soon = asyncio.Event()
        self._relay_busy = False
        """The relay makes no pass for now: it publishes what was left behind, which may take long, or has ended."""
        self._draining = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._seen = Dependency()
        self._log = get_logger("chassis.kafka.outbox")

    @asynccontextmanager
    async def transaction(
        self, within_s: float = TRANSACTION_LIMIT_S, opening: Opening | None = None
    ) -> AsyncIterator[Transaction]:
        """A transaction on the pool; what it emits is committed with it and published right after.

        `opening` saves a round trip: without one, a statement of its own asks for the time of the transaction.

        Raises TimeoutError if it takes longer than `within_s`, or 5 s after the process began to stop.
        """
        limit_s = min(within_s, STOPPING_LIMIT_S) if self._runtime.stopping.is_set() else within_s
        async with leased(self._pool, limit_s) as lease:
            began = monotonic()
            async with lease.transaction():
                now, rows_read = await opened(lease.connection, opening)
                begun = Transaction(lease.connection, now, began, rows_read)
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

    async def _insert(self, connection: Connection, messages: list[tuple[Message, str | None]]) -> list[Row]:
        if not messages:
            return []
        made: dict[UUID, tuple[Record, Span | None, bool]] = {}
        for message, traceparent in messages:
            if (event_id := message.event_id) not in made:
                made[event_id] = (*self._record(message, traceparent), message.AWAITED)
        records = [record for record, *_ in made.values()]
        inserted = await outbox_rows.insert(connection, records, list(made))
        return [Row(row_id, *made[event_id]) for row_id, event_id in inserted]

    def _record(self, message: Message, traceparent: str | None) -> tuple[Record, Span | None]:
        telemetry, topic = self._runtime.telemetry, topic_for(message).name
        sent, span = telemetry.sending(topic, parent=traceparent, job_id=message.job_id, event_type=message.TYPE)
        return encode(message, source=self._runtime.service, traceparent=sent), span

    def _hand_over(self, rows: list[Row]) -> None:
        if len(self._in_flight) + len(rows) > MAX_IN_FLIGHT:
            end_sending({row.id: row.span for row in rows}, set())
            return  # Kafka is unavailable; the relay publishes the rows later.
        self._pending.extend(rows)
        if rows:
            self._in_flight.update(row.id for row in rows)
            self._idle.clear()
            if any(row.awaited for row in rows):
                self._wake.set()
            else:
                asyncio.get_running_loop().call_later(LINGER_S, self._wake.set)

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

    async def _publish(self, rows: Sequence[Row], handed_over: asyncio.Event) -> None:
        try:
            sent = await send(self._broker, rows, PUBLISH_LIMIT_S, handed_over.set)
        except Exception as error:  # noqa: BLE001 - whatever the error, the rows stay and the relay tries again
            sent = Sent([], [], error)
        handed_over.set()
        self._note(sent)
        end_sending({row.id: row.span for row in rows}, set(sent.done))
        self._published += sent.done
        self._rejected += sent.never
        if sent.never or self._relay_busy or self._draining.is_set() or len(self._published) >= DELETE_SOON:
            self._delete_soon.set()
        self._leave_to_relay({row.id for row in rows} - set(sent.done) - set(sent.never))
        if sent.failed is not None:
            self._log.warning(KafkaEvent.OUTBOX_PUBLISH_FAILED, rows=len(rows), error=repr(sent.failed))
            await self._runtime.pause(0.5)

    async def _delete_published(self) -> None:
        while True:
            await self._delete_soon.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(DELETE_AFTER_S):
                    await self._draining.wait()
            self._delete_soon.clear()
            done, self._published = self._published, []
            never, self._rejected = self._rejected, []
            if not done and not never:
                continue  # The relay has deleted them.
            try:
                async with bounded(self._pool, LOOP_LIMIT_S) as connection:
                    await self._settle(Sent(done, never, None), connection)
            except Exception as error:  # noqa: BLE001 - whatever the error, the rows stay and are published once more
                self._log.warning(KafkaEvent.OUTBOX_PUBLISH_FAILED, rows=len(done), error=repr(error))
            finally:
                self._leave_to_relay({*done, *never})

    def _leave_to_relay(self, rows: set[int]) -> None:
        """What is still there of these rows is the relay's."""
        self._in_flight.difference_update(rows)
        if not self._in_flight:
            self._idle.set()

    async def _settle(self, sent: Sent, connection: Connection) -> None:
        """Delete published rows. A row that Kafka can never accept is kept for inspection and not retried."""
        await outbox_rows.delete(connection, sent.done)
        OUTBOX_PUBLISHED.inc(len(sent.done))
        if sent.never:
            self._log.critical(KafkaEvent.OUTBOX_ROWS_REJECTED, ids=sent.never)
            await outbox_rows.park(connection, sent.never)

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
            finally:
                self._relay_busy = False
        # Calls in progress may publish for long after that, and the relay of another replica must not be first.
        self._set_relay_busy()

    async def _relay_once(self) -> int:
        """Delete published rows, and publish those left behind; returns how many of these were published."""
        done, self._published = self._published, []
        try:
            async with transaction(self._pool, PUBLISH_LIMIT_S + LOOP_LIMIT_S) as connection:
                relayed = await self._relay_within(connection, done)
        except BaseException:
            self._published[:0] = done  # Still in flight, so that the next pass tries again, or the end of the block.
            raise
        OUTBOX_PUBLISHED.inc(len(done))
        self._leave_to_relay(set(done))
        return relayed

    async def _relay_within(self, connection: Connection, done: Sequence[int]) -> int:
        # Rows of a topic that stays missing would fill every batch; they are tried every other time.
        missed = missed_topics(self._broker, RELAY_AGE_S)
        in_flight = list(self._in_flight)
        found = await outbox_rows.left_behind(connection, RELAY_AGE_S, in_flight, BATCH, missed, published=done)
        if not found:
            if not missed and self._in_flight <= {*done}:
                self._seen.works()
            return 0
        self._set_relay_busy()
        sent = await send(self._broker, [Row(row_id, record) for row_id, record in found], PUBLISH_LIMIT_S)
        self._note(sent)
        await self._settle(sent, connection)
        if sent.failed is not None:
            # Published rows are deleted all the same: the transaction commits, and the rest is retried.
            self._log.warning(KafkaEvent.OUTBOX_RELAY_INCOMPLETE, error=repr(sent.failed))
            return 0
        self._log.info(KafkaEvent.OUTBOX_RELAYED, rows=len(found))
        return len(found)

    def _set_relay_busy(self) -> None:
        self._relay_busy = True
        self._delete_soon.set()

    def _note(self, sent: Sent) -> None:
        if sent.failed is not None:
            self._seen.fails(failed_with(sent.failed))
        elif sent.done:
            self._seen.works()

    async def _drain(self) -> None:
        self._draining.set()
        self._delete_soon.set()
        try:
            async with asyncio.timeout(5):
                await self._idle.wait()
        except TimeoutError:
            self._log.warning(KafkaEvent.OUTBOX_NOT_DRAINED, rows=len(self._in_flight))
