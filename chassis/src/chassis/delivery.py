"""Delivery: a batch from Kafka becomes one transaction, then a committed offset; nothing is lost in between.

Errors come in three families, each an instruction. The database or Kafka is away: hold the partition and try again.
The message cannot be processed: dead letters, whole, while its neighbours go on. Most of what arrives cannot be
processed: stop consuming, because it is this service that is wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import asyncpg
from aiokafka.errors import KafkaError
from opentelemetry.trace import SpanKind
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from chassis.broker import batch_subscriber, stop_consuming
from chassis.database import TRANSIENT
from chassis.dead_letters import EVERYTHING, Burial, DeadLetter
from chassis.fuse import Blown, Fuse
from chassis.logs import get_logger
from chassis.metrics import (
    BATCH_RETRIES,
    BATCH_SECONDS,
    DEAD_LETTERED,
    MESSAGES_HANDLED,
    MESSAGES_SKIPPED,
)
from chassis.offsets import commit, measure_lag, rewind
from chassis.polling import Records, Unreadable
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
UNREADABLE: Final = "Unreadable: the name of a header, here or before it, is no UTF-8"
_STALL_S: Final = 180.0

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


_NOT_THE_MESSAGE: Final[tuple[type[Exception], ...]] = (Stopping, *_AWAY)


class LeakedCancellation(Exception):
    """A handler was left by a cancellation that nobody had asked it for."""


Found = Delivered | DeadLetter | Skipped
"""What a record turned out to be."""


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
        self._moved_at: float | None = None
        self._blown: str | None = None
        self._stop: asyncio.Task[None] | None = None
        self._group = runtime.service
        self._log = get_logger("chassis.delivery").bind(group=self._group)
        self.subscriber: BatchSubscriber = batch_subscriber(broker, topics, self._group, runtime.consuming)
        self.subscriber(self._on_batch)
        runtime.must_live(self._stalled)
        runtime.must_be_ready(lambda: self._blown)

    async def _on_batch(self, records: Records) -> None:
        started = self._moved_at = time.monotonic()
        try:
            await self._process(records)
        except Stopping:
            self._rewind(records)
        except _AWAY as error:
            self._log.warning("still away; the batch is polled again", error=repr(error), records=len(records))
            self._rewind(records)
        except Exception:  # noqa: BLE001 - FastStream would swallow it with the position already past the batch
            self._rewind(records)
            self._log.exception("the delivery itself failed; the batch is polled again")
            await self._runtime.pause(1)
        finally:
            self._moved_at = None
            BATCH_SECONDS.labels(self._group).observe(time.monotonic() - started)

    async def _process(self, records: Records) -> None:
        done: list[Found] = []
        blown = False
        try:
            await self._settle([self._found(record) for record in records], done)
        except Blown:
            blown = True
        # After the fuse has blown the rest of the batch stays where it is, for a better version of this service.
        records = records[: len(done)]
        dead = [found for found in done if isinstance(found, DeadLetter)]
        if lost := [letter for letter in dead if not letter.kept]:
            await self._bury(lost)
        if (settled := self._settled) is not None:
            await self._retrying(lambda: settled(records))
        if (consumer := self.subscriber.consumer) is not None:
            await commit(consumer, records)
            measure_lag(consumer, records)
        _count(records, done)
        if blown:
            self._log.critical("fuse blown; consuming stops", dead_in_batch=len(dead))
            self._stop_consuming()

    def _found(self, record: ConsumerRecord[bytes, bytes]) -> Found:
        if isinstance(record, Unreadable):
            return DeadLetter(record, UNREADABLE, 0, left_out=EVERYTHING)
        try:
            found = decode(record.headers, record.value)
        except Undecodable as error:
            return DeadLetter(record, f"{type(error).__name__}: {error}", tries=0)
        return found if isinstance(found, Skipped) else self._delivered(record, found)

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

    async def _settle(self, found: Sequence[Found], done: list[Found]) -> None:
        """Handle records in order; where that fails, halve them until the message that makes it fail stands alone.

        Those dealt with are added to `done`. Raises Blown once most of the last ones could not be.
        """
        batch = [one for one in found if isinstance(one, Delivered)]
        try:
            if batch:
                await self._retrying(lambda: self._handle(batch))
        except _NOT_THE_MESSAGE:
            raise
        except Exception as error:  # noqa: BLE001 - any bug or refusal: found by halving, then buried or tried again
            if len(batch) > 1:
                middle = len(found) // 2
                await self._settle(found[:middle], done)
                await self._settle(found[middle:], done)
                return
            last = await self._last_tries(batch[0], error)
            found = [last if one is batch[0] else one for one in found]
        done.extend(found)
        self._fuse.note(isinstance(one, DeadLetter) for one in found if not isinstance(one, Skipped))

    async def _last_tries(self, message: Delivered, error: Exception) -> Delivered | DeadLetter:
        tries = 1
        while tries < TRIES_BEFORE_DEAD and not isinstance(error, asyncpg.DataError):
            await self._runtime.pause(0.05 * 2**tries)
            tries += 1
            try:
                await self._retrying(lambda: self._handle([message]))
            except _NOT_THE_MESSAGE:
                raise
            except Exception as again:  # noqa: BLE001 - as above; the last one is what the dead letter tells
                error = again
            else:
                return message
        self._log.error("a message cannot be handled", job_id=message.message.job_id, exc_info=error)
        kept = await self._offer(message, error)
        return DeadLetter(message.record, f"{type(error).__name__}: {error}", tries, kept)

    async def _offer(self, poison: Delivered, error: Exception) -> bool:
        kept = False

        async def offer() -> None:
            nonlocal kept
            kept = self._keep is not None and await self._keep(poison, error)

        try:
            await self._retrying(offer)
        except _NOT_THE_MESSAGE:
            raise
        except Exception:  # noqa: BLE001 - whatever it was: what the service cannot keep goes to the dead letters
            self._log.exception("a message could not be kept", job_id=poison.message.job_id)
        return kept

    async def _handle(self, batch: Sequence[Delivered]) -> None:
        try:
            async with asyncio.timeout(HANDLER_LIMIT_S):
                await self._handler(batch)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            # A cancelled child would end FastStream's consume loop silently, with its partitions kept.
            raise LeakedCancellation("a cancellation leaked out of the handler") from error

    async def _bury(self, dead: Sequence[DeadLetter]) -> None:
        await self._retrying(Burial(self._broker, dead, self._runtime.service))
        for letter in dead:
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
            self._moved_at = time.monotonic()
            with attempt:
                await work()

    async def _hold(self, seconds: float) -> None:
        BATCH_RETRIES.labels(self._group).inc()
        self._log.warning("the database or Kafka is away; holding the batch", wait_s=round(seconds, 2))
        if not await self._runtime.pause(seconds):
            raise Stopping

    def _rewind(self, records: Records) -> None:
        if (consumer := self.subscriber.consumer) is not None:
            rewind(consumer, records)

    def _stop_consuming(self) -> None:
        self._blown = "most messages went to dead letters; mend the service, restart it, replay them"
        # In a task of its own: from within the consume loop it would cancel itself half-way, and keep its partitions.
        self.subscriber.running = False
        self._stop = asyncio.create_task(stop_consuming([self.subscriber]))

    def _stalled(self) -> str | None:
        moved_at = self._moved_at
        if moved_at is not None and time.monotonic() - moved_at > _STALL_S:
            return f"a batch has not moved for over {_STALL_S:.0f} s"
        return None


def _count(records: Records, done: Sequence[Found]) -> None:
    for record, found in zip(records, done, strict=True):
        match found:
            case Skipped():
                MESSAGES_SKIPPED.labels(record.topic).inc()
            case DeadLetter():
                DEAD_LETTERED.labels(record.topic).inc()
            case Delivered():
                MESSAGES_HANDLED.labels(record.topic).inc()
