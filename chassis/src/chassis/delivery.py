"""Delivery: a batch from Kafka becomes one transaction, then a committed offset; nothing is lost in between.

Errors come in three families, each an instruction. The database or Kafka is away: hold the partition and try again.
The message cannot be processed: dead letters, whole, while its neighbours go on. Most of what arrives cannot be
processed: stop consuming, because it is this service that is wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

import asyncpg
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faststream.exceptions import StopConsume
from opentelemetry.trace import SpanKind
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from chassis.broker import Records, batch_subscriber, publish
from chassis.database import TRANSIENT
from chassis.dead_letters import DeadLetter, to_record
from chassis.logs import get_logger
from chassis.metrics import (
    BATCH_RETRIES,
    BATCH_SECONDS,
    CONSUMER_LAG,
    DEAD_LETTERED,
    MESSAGES_HANDLED,
    MESSAGES_SKIPPED,
)
from chassis.telemetry import messaging, traceparent_of
from contracts.envelope import Envelope, Skipped, Undecodable, decode
from contracts.message import Message
from contracts.topics import Topic

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord
    from faststream.kafka import KafkaBroker
    from faststream.kafka.subscriber.usecase import BatchSubscriber

    from chassis.runtime import Runtime

HANDLER_LIMIT_S: Final = 30.0
HOLD_S: Final = 120.0
"""How long a batch is tried again in place; well under Kafka's max.poll.interval, after which it is polled anew."""
TRIES_BEFORE_DEAD: Final = 3
_STALL_S: Final = HOLD_S + 2 * HANDLER_LIMIT_S

_AWAY: Final[tuple[type[Exception], ...]] = (*TRANSIENT, KafkaError)


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message as a handler gets it, with where it lay."""

    message: Message
    event_id: str
    traceparent: str | None
    """The context of this service's work on it: what the message leads to belongs under it."""
    record: ConsumerRecord[bytes, bytes]


class Handler(Protocol):
    """Does one transaction for a whole batch; called again with the same batch, or a part of it, if it raises."""

    def __call__(self, batch: Sequence[Delivered], /) -> Awaitable[None]:
        """Do it."""
        ...


Keep = Callable[[Delivered, Exception], Awaitable[bool]]
"""Offered a message its handler cannot take; returns whether it has kept it, so that it needs no dead letter."""

Settled = Callable[[Records], Awaitable[None]]
"""Told of every batch as it was read, undecodable records too, when it is dealt with and not yet committed."""


class Stopping(Exception):
    """The process stops; the batch stays uncommitted and comes again."""


@dataclass(slots=True)
class Fuse:
    """Blows when most of the last messages went to dead letters: then the consumer is wrong, not the messages."""

    window: int = 200
    least: int = 100
    share: float = 0.5

    _outcomes: deque[bool] = field(default_factory=deque)

    def note(self, *, handled: int, dead: int) -> bool:
        """Count a batch; returns whether the fuse has blown."""
        self._outcomes.extend([True] * min(dead, self.window) + [False] * min(handled, self.window))
        while len(self._outcomes) > self.window:
            self._outcomes.popleft()
        bad = sum(self._outcomes)
        return len(self._outcomes) >= self.least and bad > self.share * len(self._outcomes)


class BatchConsumer:
    """Consumes topics in the service's own group, a batch at a time."""

    def __init__(
        self,
        broker: KafkaBroker,
        runtime: Runtime,
        topics: Sequence[Topic],
        handler: Handler,
        *,
        fuse: Fuse | None = None,
        keep: Keep | None = None,
        settled: Settled | None = None,
    ) -> None:
        self.topics = tuple(topics)
        self._broker = broker
        self._runtime = runtime
        self._handler = handler
        self._fuse = fuse or Fuse()
        self._keep = keep
        self._settled = settled
        self._busy_since: float | None = None
        self._blown: str | None = None
        self._group = runtime.service
        self._log = get_logger("chassis.delivery").bind(group=self._group)
        self.subscriber: BatchSubscriber = batch_subscriber(broker, topics, self._group, runtime.consuming)
        self.subscriber(self._on_batch)
        runtime.must_live(self._stalled)
        runtime.must_be_ready(lambda: self._blown)

    async def _on_batch(self, records: Records) -> None:
        started = self._busy_since = time.monotonic()
        try:
            await self._process(records)
        except Stopping:
            self._rewind(records)
        except _AWAY as error:
            self._log.warning("still away; the batch is polled again", error=repr(error), records=len(records))
            self._rewind(records)
        except StopConsume:
            raise
        except asyncio.CancelledError:
            self._rewind(records)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            # A cancelled child would end FastStream's consume loop silently, with its partitions kept.
            self._log.exception("a cancellation leaked out of the handler; the batch is polled again")
        except Exception:  # noqa: BLE001 - FastStream would swallow it with the position already past the batch
            self._rewind(records)
            self._log.exception("the delivery itself failed; the batch is polled again")
            await self._runtime.pause(1)
        finally:
            self._busy_since = None
            BATCH_SECONDS.labels(self._group).observe(time.monotonic() - started)

    async def _process(self, records: Records) -> None:
        delivered, dead = self._decode(records)
        dead += await self._settle(delivered)
        if lost := [letter for letter in dead if not letter.kept]:
            await self._retrying(lambda: self._bury(lost))
        if (settled := self._settled) is not None:
            await self._retrying(lambda: settled(records))
        await self._commit(records)
        self._count(records)
        if self._fuse.note(handled=len(records) - len(dead), dead=len(dead)):
            self._blown = "most messages went to dead letters; mend the service, restart it, replay them"
            self._log.critical("fuse blown; consuming stops", dead_in_batch=len(dead))
            raise StopConsume

    def _decode(self, records: Records) -> tuple[list[Delivered], list[DeadLetter]]:
        delivered: list[Delivered] = []
        dead: list[DeadLetter] = []
        for record in records:
            try:
                found = decode(record.headers, record.value)
            except Undecodable as error:
                dead.append(DeadLetter(record, f"{type(error).__name__}: {error}", tries=0))
                continue
            if isinstance(found, Skipped):
                MESSAGES_SKIPPED.labels(record.topic).inc()
                continue
            delivered.append(self._delivered(record, found))
        return delivered, dead

    def _delivered(self, record: ConsumerRecord[bytes, bytes], found: Envelope) -> Delivered:
        message = Delivered(found.message, found.event_id, found.traceparent, record)
        telemetry = self._runtime.telemetry
        if not telemetry.exporting:
            return message
        attributes = messaging(record.topic, "process") | {
            "messaging.consumer.group.name": self._group,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "messaging.message.conversation_id": found.message.job_id,
        }
        name = f"process {record.topic}"
        with telemetry.span(name, parent=found.traceparent, kind=SpanKind.CONSUMER, attributes=attributes) as span:
            return replace(message, traceparent=traceparent_of(span))

    async def _settle(self, batch: Sequence[Delivered], tries: int = 1) -> list[DeadLetter]:
        """Handle a batch; where it fails, halve it until the message that makes it fail stands alone."""
        if not batch:
            return []
        try:
            await self._retrying(lambda: self._handle(batch))
        except Stopping:
            raise
        except _AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - any bug or refusal: found by halving, then buried or tried again
            if len(batch) > 1:
                middle = len(batch) // 2
                return await self._settle(batch[:middle]) + await self._settle(batch[middle:])
            if tries < TRIES_BEFORE_DEAD and not isinstance(error, asyncpg.DataError):
                await self._runtime.pause(0.05 * 2**tries)
                return await self._settle(batch, tries + 1)
            self._log.error("a message cannot be handled", job_id=batch[0].message.job_id, exc_info=error)
            kept = await self._offer(batch[0], error)
            return [DeadLetter(batch[0].record, f"{type(error).__name__}: {error}", tries, kept)]
        return []

    async def _offer(self, poison: Delivered, error: Exception) -> bool:
        kept = False

        async def offer() -> None:
            nonlocal kept
            kept = self._keep is not None and await self._keep(poison, error)

        await self._retrying(offer)
        return kept

    async def _handle(self, batch: Sequence[Delivered]) -> None:
        async with asyncio.timeout(HANDLER_LIMIT_S):
            await self._handler(batch)

    async def _bury(self, dead: Sequence[DeadLetter]) -> None:
        futures = [await publish(self._broker, to_record(letter, self._runtime.service)) for letter in dead]
        await asyncio.gather(*futures)
        for letter in dead:
            DEAD_LETTERED.labels(letter.record.topic).inc()
            self._log.warning(
                "put into dead letters",
                topic=letter.record.topic,
                partition=letter.record.partition,
                offset=letter.record.offset,
                error=letter.error,
            )

    async def _retrying(self, work: Callable[[], Awaitable[None]]) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(_AWAY),
            wait=wait_random_exponential(multiplier=0.2, max=10),
            stop=stop_after_delay(HOLD_S),
            sleep=self._hold,
            reraise=True,
        ):
            with attempt:
                await work()

    async def _hold(self, seconds: float) -> None:
        BATCH_RETRIES.labels(self._group).inc()
        self._log.warning("the database or Kafka is away; holding the batch", wait_s=round(seconds, 2))
        if not await self._runtime.pause(seconds):
            raise Stopping

    async def _commit(self, records: Records) -> None:
        consumer = self.subscriber.consumer
        if consumer is None:
            return
        ends: dict[TopicPartition, int] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            ends[partition] = max(ends.get(partition, 0), record.offset + 1)
        try:
            async with asyncio.timeout(10):
                await consumer.commit(ends)
        except (CommitFailedError, IllegalStateError, TimeoutError, KafkaError) as error:
            # What was done is in the database; whoever reads the batch again drops it as seen.
            self._log.warning("offsets not committed; the batch comes again", error=repr(error))

    def _rewind(self, records: Records) -> None:
        consumer = self.subscriber.consumer
        if consumer is None:
            return
        starts: dict[TopicPartition, int] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            starts[partition] = min(starts.get(partition, record.offset), record.offset)
        for partition, offset in starts.items():
            if partition in consumer.assignment():
                consumer.seek(partition, offset)

    def _count(self, records: Records) -> None:
        consumer = self.subscriber.consumer
        for record in records:
            MESSAGES_HANDLED.labels(record.topic).inc()
        if consumer is None:
            return
        for partition in {TopicPartition(record.topic, record.partition) for record in records}:
            high = consumer.highwater(partition)
            last = max(r.offset for r in records if (r.topic, r.partition) == partition) + 1
            if high is not None:
                CONSUMER_LAG.labels(partition.topic, str(partition.partition)).set(max(0, high - last))

    def _stalled(self) -> str | None:
        busy = self._busy_since
        if busy is not None and time.monotonic() - busy > _STALL_S:
            return f"a batch has been in hand for over {_STALL_S:.0f} s"
        return None
