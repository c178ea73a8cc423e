"""Consumer progress: the lag of each partition, and how long no batch has been finished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from chassis.delivery.polling import positions
from chassis.kafka.records import Records
from chassis.observability.log_events import DeliveryEvent
from chassis.observability.logs import get_logger
from chassis.observability.metrics import CONSUMER_LAG

STANDSTILL_S: Final = 60.0
"""Seconds without a finished batch, while messages are waiting, after which the process is not ready."""
POLL_LIMIT_S: Final = 30.0
"""Longest duration of a poll, in seconds. It returns within seconds, unless a rebalance of the group hangs."""
ASK_EVERY_S: Final = 10.0
ANSWER_LIMIT_S: Final = 3.0


class ConsumerProgress:
    """The lag of one consumer, and how long it has made no progress."""

    def __init__(self, group: str) -> None:
        self._stands: Mapping[TopicPartition, int] = {}
        self._ends: Mapping[TopicPartition, int] = {}
        self._shown: set[TopicPartition] = set()
        self._since: dict[TopicPartition, float] = {}
        """When messages were first polled and none was finished since, by partition (monotonic seconds)."""
        self._polling_since: float | None = None
        self._due_at = 0.0
        self._log = get_logger("chassis.delivery.consumer").bind(group=group)

    def problem(self) -> str | None:
        """Why the consumer makes no progress, as text; None while it does."""
        now = time.monotonic()
        if self._polling_since is not None and now - self._polling_since > POLL_LIMIT_S:
            return f"the group has been rebalancing for {now - self._polling_since:.0f} s"
        place = min(self._since, key=lambda each: self._since[each], default=None)
        if place is None or now - self._since[place] <= STANDSTILL_S:
            return None
        stood_s = now - self._since[place]
        return f"{place.topic} {place.partition} has messages, and none was processed for {stood_s:.0f} s"

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Mark a poll as in progress for the length of the block."""
        self._polling_since = time.monotonic()
        try:
            yield
        finally:
            self._polling_since = None

    def polled(self, records: Records) -> None:
        """Note that the partitions of `records` have messages to process."""
        now = time.monotonic()
        for place in {TopicPartition(record.topic, record.partition) for record in records}:
            self._since.setdefault(place, now)

    def finished(self, places: Iterable[TopicPartition]) -> None:
        """Note that records of these partitions are finished."""
        for place in places:
            self._since.pop(place, None)

    async def measure(self, consumer: AIOKafkaConsumer, *, batch_in_hand: bool = False) -> None:
        """Set the lag metric of each assigned partition. Raises nothing."""
        if not batch_in_hand:
            self._stands = positions(consumer)
        places = consumer.assignment()
        await self._ask(consumer, places)
        for lost in self._shown - places:
            CONSUMER_LAG.remove(lost.topic, str(lost.partition))
        self._shown &= places
        self.finished(self._since.keys() - places)
        for place in places & self._stands.keys() & consumer.assignment():
            end = max(self._ends.get(place, 0), consumer.highwater(place) or 0)
            lag = max(0, end - self._stands[place])
            CONSUMER_LAG.labels(place.topic, str(place.partition)).set(lag)
            self._shown.add(place)
            if not lag:
                self.finished([place])

    async def _ask(self, consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> None:
        # The client's own value dates from its last fetch, and it does not fetch while it holds messages.
        now = time.monotonic()
        if now < self._due_at or not places:
            return
        self._due_at = now + ASK_EVERY_S
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                self._ends = await consumer.end_offsets(list(places))
        except (KafkaError, IllegalStateError, OSError, TimeoutError) as error:
            self._log.debug(DeliveryEvent.END_OFFSETS_UNKNOWN, error=repr(error))
