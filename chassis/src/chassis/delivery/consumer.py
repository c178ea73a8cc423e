"""Delivery: each batch from Kafka is handled in one transaction; then its offsets may be committed. Nothing is lost.

A message that cannot be decoded becomes a dead letter, and the rest of the batch goes on. `handling.py` handles the
rest. If the handler fails on most messages, consuming pauses (`dlq_limit.py`); if it is too slow, batches become
smaller (`batch_size.py`); if no progress is made, the process is not ready.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiokafka import TopicPartition

from chassis.delivery.batch_size import BatchSize
from chassis.delivery.dead_letters import EVERYTHING, DeadLetter, DeadLetterPublisher, log_dead_letters
from chassis.delivery.dlq_limit import DlqLimit, DlqLimitExceeded
from chassis.delivery.handling import AWAY, Delivered, Found, Handler, Handling, Keep, Stopping, TooSlow, arrived_at
from chassis.delivery.offsets import LEAVING_LIMIT_S, LogStarts, Offsets, log_starts, past, rewind
from chassis.delivery.polling import PollPause, idle, poll, positions
from chassis.delivery.progress import ConsumerProgress
from chassis.delivery.spans import BatchSpans
from chassis.kafka.broker import SegueBroker
from chassis.kafka.records import Records, Unreadable, in_turns
from chassis.kafka.subscriber import Gather, batch_subscriber, subscribed
from chassis.kafka.topic_watch import TopicWatch
from chassis.observability.log_events import DeliveryEvent
from chassis.observability.logs import get_logger
from chassis.observability.metrics import (
    BATCH_RETRIES,
    BATCH_SECONDS,
    DEAD_LETTERED,
    DLQ_LIMIT_EXCEEDED,
    MESSAGES_HANDLED,
    MESSAGES_SKIPPED,
)
from contracts.envelope import Skipped, Undecodable, decode
from contracts.topics import DEAD_LETTERS, Topic

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    from chassis.runtime.runtime import Runtime

__all__ = ["BatchConsumer", "Delivered", "Settled", "arrived_at"]

BATCH_RECORDS: Final = 1000
_POLL_MS: Final = 1_000
_PROBE_MS: Final = 200
_SETTLING_MS: Final = 100
_STALL_S: Final = 180.0
_COUNTERS: Final = {Skipped: MESSAGES_SKIPPED, DeadLetter: DEAD_LETTERED, Delivered: MESSAGES_HANDLED}

Settled = Callable[[Records, LogStarts], Awaitable[None]]
"""Called for every batch as it was read, undecodable records included, after handling and before the commit."""


class BatchConsumer:
    """Consumes topics in the service's consumer group, one batch at a time."""

    def __init__(
        self,
        broker: SegueBroker,
        runtime: Runtime,
        topics: Sequence[Topic],
        handler: Handler,
        *,
        limit: DlqLimit | None = None,
        keep: Keep | None = None,
        settled: Settled | None = None,
        gather: Gather | None = None,
    ) -> None:
        self._broker = broker
        self._runtime = runtime
        self._limit = limit or DlqLimit()
        self._handling = Handling(runtime, handler, keep, self._limit, self._while_held)
        self._batch_size = BatchSize(BATCH_RECORDS)
        self._poll_pause = PollPause()
        self._progress = ConsumerProgress(runtime.service)
        self._polled: Mapping[TopicPartition, int] = {}
        """The end position of the last poll, by partition."""
        self._settled = settled
        self._failed_at: set[TopicPartition] = set()
        """Partitions in which a probe has failed since the limit was exceeded; others are probed first."""
        self._group = runtime.service
        self._spans = BatchSpans(runtime.telemetry, self._group)
        self._log = get_logger("chassis.delivery.consumer").bind(group=self._group)
        self._offsets = Offsets()
        group = broker.cluster.names.group(self._group)
        self._watch = TopicWatch(broker.cluster, topics, group, needed=(DEAD_LETTERS,))
        self._leaving = False
        calls = (self._next_batch, self._on_batch, self._watch.note_denied, self._give_up)
        self.subscriber = batch_subscriber(broker, topics, runtime, *calls, gather=gather)
        DLQ_LIMIT_EXCEEDED.labels(self._group).set(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Consume for as long as the block lasts; on leaving, finish the current batch, and commit all."""
        for failed in (self._stalled, self._exceeded_for_long):
            self._runtime.must_live(failed)
        for unready in (self._exceeded, self._watch.problem, self._not_moving):
            self._runtime.must_be_ready(unready, part="consumer")
        self._runtime.depends_on("kafka", self._watch.kafka)
        async with subscribed(self.subscriber, self._broker.cluster, self._runtime):
            try:
                yield
            finally:
                self._leaving = True
                await self._give_up()

    async def _give_up(self) -> None:
        if (consumer := self.subscriber.consumer) is not None:
            await self._offsets.commit(consumer, within_s=LEAVING_LIMIT_S)

    async def _next_batch(self, consumer: AIOKafkaConsumer) -> Records:
        if not await self._positions_hold(consumer):
            with self._progress.polling():
                await idle(consumer, timeout_ms=_SETTLING_MS)
            return ()
        await self._offsets.commit_if_due(consumer)
        await self._progress.measure(consumer)
        now = time.monotonic()
        if (wait_s := self._limit.wait_s(now)) > 0:
            with self._progress.polling():
                await idle(consumer, timeout_ms=min(_POLL_MS, int(wait_s * 1000) + 1))
            return ()
        size, aside = self._batch_size.turn(consumer.assignment(), now)
        timeout_ms = _PROBE_MS if aside else _POLL_MS
        with self._progress.polling():
            await self._poll_pause.wait()
            records = await poll(consumer, timeout_ms=timeout_ms, max_records=size, without=self._failed_at | aside)
        self._poll_pause.note(len(records), size)
        self._watch.note_denied(None)
        self._polled = positions(consumer)
        if not records:
            self._failed_at.clear()
            # Records that are no messages, as transaction markers, end here as well.
            self._offsets.finished(self._polled)
            await self._offsets.commit(consumer)
        self._progress.polled(records)
        return records

    async def _while_held(self) -> None:
        if (consumer := self.subscriber.consumer) is not None:
            await self._offsets.commit_if_due(consumer)  # What earlier batches have finished.
            await self._progress.measure(consumer, batch_in_hand=True)

    async def _positions_hold(self, consumer: AIOKafkaConsumer) -> bool:
        """Whether the positions are those of the existing topics; the last result while Kafka is unavailable."""
        there = await self._watch.look(consumer, at_once=not self._offsets.checked(consumer))
        if there is not None:
            try:
                await self._offsets.check(consumer, there)
            except AWAY as error:
                self._log.warning(DeliveryEvent.OFFSETS_NOT_CHECKED, error=repr(error))
        return self._offsets.checked(consumer)

    async def _on_batch(self, records: Records) -> None:
        started = self._handling.moved_at = time.monotonic()
        try:
            with self._spans.of_batch(len(records)):
                await (self._process(records) if self._limit.since is None else self._probe(records))
        except Stopping:
            self._rewind(records)
        except TooSlow as slow:
            self._rewind(records)
            self._slower(slow)
        except AWAY as error:
            self._log.warning(DeliveryEvent.BATCH_RETRIED, error=repr(error), records=len(records))
            self._rewind(records)
            # The batch itself may have caused the database to fail.
            self._batch_size.too_slow(len(records))
        except Exception:  # noqa: BLE001 - FastStream would swallow it with the position already past the batch
            self._rewind(records)
            self._log.exception(DeliveryEvent.DELIVERY_FAILED)
            await self._runtime.pause(1)
        finally:
            self._handling.moved_at = None
            BATCH_SECONDS.labels(self._group).observe(time.monotonic() - started)

    async def _process(self, records: Records) -> None:
        done: list[Found] = []
        try:
            await self._handling.settle([self._found(record) async for record in in_turns(records)], done)
        except DlqLimitExceeded:
            await self._finish(records[: len(done)], done)
            self._rewind(records[len(done) :])
            self._pause(DeliveryEvent.CONSUMING_PAUSED)
        except TooSlow as slow:
            await self._finish(records[: len(done)], done)
            self._rewind(records[len(done) :])
            self._slower(slow)
        else:
            await self._finish(records, done, whole=True)
            self._batch_size.done(past(records))

    async def _probe(self, records: Records) -> None:
        """Handle one message after a pause. Records before it that are not for the handler do not count as a probe."""
        head: list[Found] = []
        async for record in in_turns(records):
            head.append(self._found(record))
            if isinstance(head[-1], Delivered):
                break
        message = head[-1]
        handled = isinstance(message, Delivered) and await self._handling.probe(message)
        done = head if handled or not isinstance(message, Delivered) else head[:-1]
        await self._finish(records[: len(done)], done, whole=len(done) == len(records))
        self._rewind(records[len(done) :])
        if handled:
            self._resume()
        elif isinstance(message, Delivered):
            self._failed_at.add(TopicPartition(message.record.topic, message.record.partition))
            self._pause(DeliveryEvent.PROBE_FAILED)

    async def _finish(self, records: Records, done: Sequence[Found], *, whole: bool = False) -> None:
        """Publish the dead letters; then all is finished up to the end of the poll if `whole`, else of `records`."""
        if not records:
            return
        dead = [found for found in done if isinstance(found, DeadLetter)]
        if lost := [letter for letter in dead if not letter.kept]:
            await self._bury(lost)
        if (settled := self._settled) is not None:
            await self._handling.retrying(lambda: settled(records, self._log_starts))
        ends = past(records)
        self._offsets.finished(self._polled if whole else ends)
        self._progress.finished(ends)
        if self._leaving:
            await self._give_up()
        self._spans.finished(done)
        _count(records, done)

    async def _log_starts(self, places: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        consumer = self.subscriber.consumer
        return {} if consumer is None else await log_starts(consumer, places)

    async def _bury(self, dead: Sequence[DeadLetter]) -> None:
        await self._handling.retrying(DeadLetterPublisher(self._broker, dead, self._group))
        log_dead_letters(dead, self._group)

    def _found(self, record: ConsumerRecord[bytes, bytes]) -> Found:
        if isinstance(record, Unreadable):
            return DeadLetter(record, f"Unreadable: {record.why}", 0, left_out=EVERYTHING)
        try:
            found = decode(record.headers, record.value)
        except Undecodable as error:
            return DeadLetter(record, f"{type(error).__name__}: {error}", tries=0)
        if isinstance(found, Skipped):
            return found
        return Delivered(found.message, found.event_id, self._spans.begun(record, found), record)

    def _rewind(self, records: Records) -> None:
        if (consumer := self.subscriber.consumer) is not None:
            rewind(consumer, records)

    def _slower(self, slow: TooSlow) -> None:
        BATCH_RETRIES.labels(self._group).inc()
        self._batch_size.too_slow(len(slow.batch))
        if len(slow.batch) == 1:
            (message,) = slow.batch
            self._batch_size.leave_aside(
                TopicPartition(message.record.topic, message.record.partition), time.monotonic()
            )
        self._log.warning(DeliveryEvent.BATCH_SIZE_REDUCED, slow=str(slow), next_size=self._batch_size.size)

    def _pause(self, why: DeliveryEvent) -> None:
        pause_s = self._limit.pause(time.monotonic(), random.uniform(0.75, 1.25))
        DLQ_LIMIT_EXCEEDED.labels(self._group).set(1)
        self._log.critical(why, pause_s=round(pause_s, 1), last_error=self._handling.last_error)

    def _resume(self) -> None:
        self._limit.resume()
        self._failed_at.clear()
        DLQ_LIMIT_EXCEEDED.labels(self._group).set(0)
        self._log.info(DeliveryEvent.CONSUMING_RESUMED)

    def _not_moving(self) -> str | None:
        why, last = self._progress.problem(), self._handling.last_away
        return f"{why} (the last error: {last})" if why and last else why

    def _exceeded(self) -> str | None:
        return self._limit.problem(time.monotonic(), self._handling.last_error)

    def _exceeded_for_long(self) -> str | None:
        return self._limit.failure(time.monotonic(), self._handling.last_error)

    def _stalled(self) -> str | None:
        moved_at = self._handling.moved_at
        stalled = moved_at is not None and time.monotonic() - moved_at > _STALL_S
        return f"a batch has made no progress for over {_STALL_S:.0f} s" if stalled else None


def _count(records: Records, done: Sequence[Found]) -> None:
    counted = Counter((type(found), record.topic) for record, found in zip(records, done, strict=True))
    for (kind, topic), n in counted.items():
        _COUNTERS[kind].labels(topic).inc(n)
