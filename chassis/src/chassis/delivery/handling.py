"""How a batch is handled: as a whole where that works, else halved until the message that makes it fail stands alone.

The database or Kafka is away: the batch is held and tried again. The handler fails otherwise: the message is tried
three times, then it is a dead letter, while its neighbours go on. It fails on most messages: DlqLimitExceeded.
It takes longer than it may: TooSlow, and the next batch is smaller (`batch_size.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import asyncpg
from aiokafka.errors import KafkaError

from chassis.delivery.dead_letters import DeadLetter
from chassis.delivery.dlq_limit import DlqLimit
from chassis.observability.log_events import DeliveryEvent
from chassis.observability.logs import get_logger
from chassis.observability.metrics import BATCH_RETRIES
from chassis.postgres.limits import Silent
from chassis.postgres.pool import TRANSIENT
from chassis.runtime.retry import retry
from contracts.envelope import Skipped
from contracts.messages.base import Message

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from chassis.runtime.runtime import Runtime

HANDLER_LIMIT_S: Final = 30.0
HOLD_S: Final = 120.0
"""How long a batch is tried again in place; well under Kafka's max.poll.interval, after which it is polled anew."""
TRIES_BEFORE_DEAD: Final = 3

AWAY: Final[tuple[type[Exception], ...]] = (*TRANSIENT, KafkaError)
"""What is raised while the database or Kafka is away."""

_SLOW: Final[tuple[type[Exception], ...]] = (TimeoutError, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
"""What is raised where work takes longer than it may, on a database that answers."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message as a handler gets it, with where it lay."""

    message: Message
    event_id: str
    traceparent: str | None
    """The context of this service's work on it: what the message leads to belongs under it."""
    record: ConsumerRecord[bytes, bytes]


def arrived_at(record: ConsumerRecord[bytes, bytes]) -> datetime | None:
    """When a record came into the log, as it says itself; None where it says no time that there is."""
    try:
        return datetime.fromtimestamp(record.timestamp / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


class Handler(Protocol):
    """Does one transaction for a whole batch; called again with the same batch, or a part of it, if it raises."""

    def __call__(self, batch: Sequence[Delivered], /) -> Awaitable[None]:
        """Process the batch."""
        ...


Keep = Callable[[Delivered, Exception], Awaitable[bool]]
"""Offered a message its handler cannot take; returns whether it has kept it, so that it needs no dead letter."""

Holding = Callable[[], Awaitable[None]]
"""Called each time that a batch is held for a while. Raises nothing."""

Found = Delivered | DeadLetter | Skipped
"""What a record turned out to be."""


class Stopping(Exception):
    """The process stops; the batch stays uncommitted and comes again."""


class TooSlow(Exception):
    """The handler took longer with messages than it may, or a lock on what they change was not to be had in time."""

    def __init__(self, batch: Sequence[Delivered], why: Exception) -> None:
        super().__init__(f"{len(batch)} messages: {type(why).__name__}")
        self.batch = batch


_NOT_THE_MESSAGE: Final[tuple[type[Exception], ...]] = (Stopping, TooSlow, *AWAY)


class LeakedCancellation(Exception):
    """A handler was left by a cancellation that nobody had asked it for."""


class Handling:
    """Takes batches through a service's handler."""

    def __init__(
        self, runtime: Runtime, handler: Handler, keep: Keep | None, limit: DlqLimit, holding: Holding
    ) -> None:
        self._runtime = runtime
        self._holding = holding
        self._handler = handler
        self._keep = keep
        self._limit = limit
        self._log = get_logger("chassis.delivery.consumer").bind(group=runtime.service)
        self.moved_at: float | None = None
        """When the current batch last made progress (monotonic seconds); None while there is none."""
        self.last_error: str | None = None
        """What kind of error the handler last raised about a message."""
        self.last_away: str | None = None
        """What was last raised while the database or Kafka was away."""

    async def settle(self, found: Sequence[Found], done: list[Found]) -> None:
        """Handle records in order. Those dealt with are added to `done`, also where this raises.

        Raises DlqLimitExceeded once the handler failed on most of the last messages, TooSlow where it takes too long,
        Stopping when the process is told to stop, and one of AWAY where the database or Kafka stays away.
        """
        batch = [one for one in found if isinstance(one, Delivered)]
        error = await self._refusal(batch) if batch else None
        if error is not None and len(batch) > 1:
            middle = len(found) // 2
            await self.settle(found[:middle], done)
            await self.settle(found[middle:], done)
            return
        failed = False
        if error is not None:
            last = await self._last_tries(batch[0], error)
            failed = isinstance(last, DeadLetter)
            found = [last if one is batch[0] else one for one in found]
        done.extend(found)
        self._limit.note([failed] * len(batch))

    async def probe(self, message: Delivered) -> bool:
        """Handle one message once; returns whether that went well. Raises Stopping, TooSlow, or one of AWAY."""
        error = await self._refusal([message])
        if error is not None:
            self._failed(message, error)
        return error is None

    async def retrying(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`, again and again with growing pauses while the database or Kafka is away, for up to 2 minutes."""

        async def tried() -> None:
            self.moved_at = time.monotonic()
            try:
                await work()
            except AWAY as error:
                self.last_away = type(error).__name__
                raise

        await retry(tried, AWAY, pause_s=0.2, longest_pause_s=10, random_pauses=True, within_s=HOLD_S, sleep=self._hold)

    async def _refusal(self, batch: Sequence[Delivered]) -> Exception | None:
        """Why the handler does not do a batch; None once it has done it. Raises Stopping, TooSlow, or one of AWAY."""
        try:
            await self.retrying(lambda: self._handle(batch))
        except _NOT_THE_MESSAGE:
            raise
        except Exception as error:  # noqa: BLE001 - any bug or refusal: found by halving, then tried again or buried
            return error
        return None

    async def _last_tries(self, message: Delivered, error: Exception) -> Delivered | DeadLetter:
        tries = 1
        while tries < TRIES_BEFORE_DEAD and not isinstance(error, asyncpg.DataError):
            await self._runtime.pause(0.05 * 2**tries)
            tries += 1
            again = await self._refusal([message])
            if again is None:
                return message
            error = again
        self._failed(message, error)
        kept = await self._offer(message, error)
        return DeadLetter(message.record, f"{type(error).__name__}: {error}", tries, kept)

    def _failed(self, message: Delivered, error: Exception) -> None:
        self.last_error = type(error).__name__
        self._log.error(DeliveryEvent.MESSAGE_FAILED, job_id=message.message.job_id, exc_info=error)

    async def _offer(self, poison: Delivered, error: Exception) -> bool:
        kept = False

        async def offer() -> None:
            nonlocal kept
            kept = self._keep is not None and await self._keep(poison, error)

        try:
            await self.retrying(offer)
        except _NOT_THE_MESSAGE:
            raise
        except Exception:  # noqa: BLE001 - whatever it was: what the service cannot keep goes to the dead letters
            self._log.exception(DeliveryEvent.QUARANTINE_FAILED, job_id=poison.message.job_id)
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
        except _SLOW as error:
            if _says_away(error):
                raise
            self.last_away = type(error).__name__
            raise TooSlow(batch, error) from error

    async def _hold(self, seconds: float) -> None:
        BATCH_RETRIES.labels(self._runtime.service).inc()
        self._log.warning(DeliveryEvent.DEPENDENCY_UNAVAILABLE, wait_s=round(seconds, 2), error=self.last_away)
        await self._holding()
        if not await self._runtime.pause(seconds):
            raise Stopping


def _says_away(error: Exception) -> bool:
    """Whether a time-out is one of a connection: nothing answers, so that less work would take as long."""
    return isinstance(error, Silent) or (isinstance(error, TimeoutError) and error.errno is not None)
