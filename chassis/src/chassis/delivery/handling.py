"""Handling a batch: as a whole if possible, else in halves, until the message that fails is alone.

While the database or Kafka is unavailable, the batch is held and retried. On any other error a message is tried three
times and then becomes a dead letter; the other messages go on. If most messages fail, DlqLimitExceeded is raised. If
the time limit is exceeded, TooSlow is raised and the next batch is smaller (`batch_size.py`).
"""

from __future__ import annotations

import asyncio
import re
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
from chassis.postgres.limits import NotResponding
from chassis.postgres.pool import TRANSIENT
from chassis.runtime.retry import retry
from contracts.envelope import Skipped
from contracts.messages.base import Message

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from chassis.runtime.runtime import Runtime

HANDLER_LIMIT_S: Final = 30.0
HOLD_S: Final = 120.0
"""How long a batch is retried in place, in seconds; then it is polled again. Well below Kafka's max.poll.interval."""
TRIES_BEFORE_DEAD: Final = 3

AWAY: Final[tuple[type[Exception], ...]] = (*TRANSIENT, KafkaError)
"""Errors raised while the database or Kafka is unavailable."""

_SLOW: Final[tuple[type[Exception], ...]] = (TimeoutError, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
"""Errors raised when work exceeds its time limit although the database answers."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message as passed to a handler, with its record."""

    message: Message
    event_id: str
    traceparent: str | None
    """The trace context of its processing; work that follows from the message is traced under it."""
    record: ConsumerRecord[bytes, bytes]


REPLAYED: Final = "replayed-timestamp-ms"
"""The header of a record that was a dead letter: when it first arrived, as Unix time in milliseconds."""
_MILLISECONDS: Final = re.compile(rb"[0-9]{1,15}")


def arrived_at(record: ConsumerRecord[bytes, bytes]) -> datetime | None:
    """When a record arrived in its topic, a replayed one the first time; None if it has no valid time."""
    times = [
        int(value) for name, value in record.headers if name == REPLAYED and value and _MILLISECONDS.fullmatch(value)
    ]
    try:
        return datetime.fromtimestamp(min([record.timestamp, *times]) / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


class Handler(Protocol):
    """Handles a whole batch in one transaction. If it raises, it is called again with the batch or a part of it."""

    def __call__(self, batch: Sequence[Delivered], /) -> Awaitable[None]:
        """Process the batch."""
        ...


Keep = Callable[[Delivered, Exception], Awaitable[bool]]
"""Called with a message that the handler cannot process; returns whether the message is stored, with no dead letter."""

Holding = Callable[[], Awaitable[None]]
"""Called each time a batch is held before a retry. Raises nothing."""

Found = Delivered | DeadLetter | Skipped
"""The result of decoding a record."""


class Stopping(Exception):
    """The process is stopping; the batch is not committed and is delivered again."""


class TooSlow(Exception):
    """The handler exceeded its time limit, or could not obtain a lock in time."""

    def __init__(self, batch: Sequence[Delivered], why: Exception) -> None:
        super().__init__(f"{len(batch)} messages: {type(why).__name__}")
        self.batch = batch


_NOT_THE_MESSAGE: Final[tuple[type[Exception], ...]] = (Stopping, TooSlow, *AWAY)


class LeakedCancellation(Exception):
    """A handler ended with a cancellation that was not requested by its caller."""


class Handling:
    """Passes batches to a service's handler."""

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
        """The type of the last error that the handler raised for a message."""
        self.last_away: str | None = None
        """The type of the last error raised while the database or Kafka was unavailable."""

    async def settle(self, found: Sequence[Found], done: list[Found]) -> None:
        """Handle records in order. Those that are finished are appended to `done`, also when this raises.

        Raises DlqLimitExceeded once the handler failed on most of the last messages, TooSlow when it exceeds its time
        limit, Stopping when the process is stopping, and one of AWAY when the database or Kafka stays unavailable.
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
        """Handle one message once; returns whether it succeeded. Raises Stopping, TooSlow, or one of AWAY."""
        error = await self._refusal([message])
        if error is not None:
            self._failed(message, error)
        return error is None

    async def retrying(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`; while the database or Kafka is unavailable, retry with growing pauses for up to 2 minutes."""

        async def tried() -> None:
            self.moved_at = time.monotonic()
            try:
                await work()
            except AWAY as error:
                self.last_away = type(error).__name__
                raise

        await retry(tried, AWAY, pause_s=0.2, longest_pause_s=10, random_pauses=True, within_s=HOLD_S, sleep=self._hold)

    async def _refusal(self, batch: Sequence[Delivered]) -> Exception | None:
        """The handler's error for a batch; None if it succeeded. Raises Stopping, TooSlow, or one of AWAY."""
        try:
            await self.retrying(lambda: self._handle(batch))
        except _NOT_THE_MESSAGE:
            raise
        except Exception as error:  # noqa: BLE001 - any error: halving finds the message, which is retried
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
        except Exception:  # noqa: BLE001 - whatever the error, the message becomes a dead letter
            self._log.exception(DeliveryEvent.QUARANTINE_FAILED, job_id=poison.message.job_id)
        return kept

    async def _handle(self, batch: Sequence[Delivered]) -> None:
        try:
            async with asyncio.timeout(HANDLER_LIMIT_S):
                await self._handler(batch)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            # A cancelled child task would end FastStream's consume loop without an error, and keep its partitions
            # assigned.
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
    """Whether a time-out comes from a connection: the server does not answer, so a smaller batch would take as long."""
    return isinstance(error, NotResponding) or (isinstance(error, TimeoutError) and error.errno is not None)
