"""Offsets: finished records are committed; records that are not finished are read again.

An offset is valid in one topic only. A topic that was deleted and created again starts at 0, and an offset of the
earlier topic would silently skip the records below it. So each commit stores the topic's id in its metadata, and a
position of an earlier topic of the same name is reset to the start. Records that are read twice are dropped as
duplicates.

Not every offset belongs to a record: each transaction of a producer ends with a marker, which Kafka's client skips. So
the consumer's position is committed, not the offset after the last record.

A commit is a record that all replicas have to store, and it would cost as much as handling a small batch. So the
offsets of several batches are committed together, COMMIT_EVERY_S after the last time, and before partitions are given
up. A process that is killed before that has its last batches read again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from chassis.kafka.metadata import TopicState
from chassis.observability.log_events import DeliveryEvent
from chassis.observability.logs import get_logger

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    Record = ConsumerRecord[bytes, bytes]

COMMIT_EVERY_S: Final = 1.0
COMMIT_LIMIT_S: Final = 10.0
"""Without it the client would wait for as long as Kafka is unavailable."""
LEAVING_LIMIT_S: Final = 2.0
"""The same when partitions are given up: the others of the group wait for it."""

LogStarts = Callable[[Iterable[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
"""Returns the first offset of each partition's log. Raises KafkaError, OSError or TimeoutError."""


_End = tuple[int, str]
"""An offset, and the id of the topic in which it is valid."""


class Offsets:
    """The offsets of one consumer, and the ids of their topics."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ids: dict[str, str] = {}
        self._checked: object | None = None
        self._committed: dict[TopicPartition, _End] = {}
        """The group's committed offsets for the partitions that are assigned now."""
        self._finished: dict[TopicPartition, _End] = {}
        """Up to where records are finished and not yet committed."""
        self._due_at = 0.0
        self._log = get_logger("chassis.delivery.consumer")

    def checked(self, consumer: AIOKafkaConsumer) -> bool:
        """Whether the positions of the assigned partitions are known to belong to the topics that exist now."""
        return self._checked is not None and self._checked is _assignment(consumer)

    async def check(self, consumer: AIOKafkaConsumer, there: Mapping[str, TopicState]) -> None:
        """Seek to the start of each topic that was created again since its offsets were committed or last checked.

        Called when partitions were assigned and whenever the topics were described, never during a poll. Raises
        KafkaError or TimeoutError.
        """
        assignment = _assignment(consumer)
        if assignment is None:
            return
        ids = {name: state.id for name, state in there.items() if state.id}
        anew = {name for name, found in ids.items() if self._ids.get(name, found) != found}
        stale = {place for place in assignment.tps if place.topic in anew}
        if assignment is not self._checked:
            committed = await _fetch_committed(consumer, assignment.tps)
            stale |= {place for place, offset in committed.items() if _elsewhere(offset.metadata, ids.get(place.topic))}
            self._committed = {place: (offset.offset, offset.metadata) for place, offset in committed.items()}
            self._finished.clear()  # Another replica may have gone on from there meanwhile.
        for place in stale:
            self._committed.pop(place, None)
            self._finished.pop(place, None)
        for place in stale & consumer.assignment():
            consumer.seek(place, 0)  # If the log starts later, Kafka's client seeks to its start.
        if stale:
            self._log.warning(
                DeliveryEvent.TOPICS_RECREATED,
                topics=sorted({place.topic for place in stale}),
            )
        self._ids |= ids
        self._checked = assignment

    def finished(self, ends: Mapping[TopicPartition, int]) -> None:
        """Note that all records up to `ends` are finished."""
        self._finished |= {place: (end, self._ids.get(place.topic, "")) for place, end in ends.items()}

    async def commit_if_due(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what is finished, if the last commit was COMMIT_EVERY_S ago."""
        if self._clock() >= self._due_at:
            await self.commit(consumer)

    async def commit(self, consumer: AIOKafkaConsumer, *, within_s: float = COMMIT_LIMIT_S) -> None:
        """Commit what is finished in the topics that exist, for the partitions that are still assigned. Raises nothing.

        If it fails, the records are delivered again after a restart, or to another replica. While the positions are not
        checked, nothing is committed: a poll may have ended with those of another assignment.
        """
        if not self.checked(consumer):
            return
        assignment, finished, self._finished = self._checked, self._finished, {}
        ours = {
            place: end
            for place, end in finished.items()
            if place in consumer.assignment()
            and end[1] == self._ids.get(place.topic, "")
            and end != self._committed.get(place, (0, end[1]))
        }
        if not ours:
            return
        self._due_at = self._clock() + COMMIT_EVERY_S
        try:
            async with asyncio.timeout(within_s):
                await consumer.commit(ours)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            # The result is in the database; a consumer that reads the batch again drops it as duplicate.
            # Private API, as there is no public one: whether the client has lost its coordinator, or that one refuses.
            node: Any = getattr(getattr(consumer, "_coordinator", None), "coordinator_id", None)
            self._log.warning(DeliveryEvent.OFFSETS_NOT_COMMITTED, error=repr(error), coordinator=node)
            if self._checked is assignment:
                self._finished = finished | self._finished
            return
        self._committed |= ours


def past(records: Sequence[Record]) -> dict[TopicPartition, int]:
    """The offset after the last of `records`, by partition."""
    ends: dict[TopicPartition, int] = {}
    for record in records:
        partition = _partition(record)
        ends[partition] = max(ends.get(partition, 0), record.offset + 1)
    return ends


def rewind(consumer: AIOKafkaConsumer, records: Sequence[Record]) -> None:
    """Have the next poll start with `records` again, for the partitions that are still assigned."""
    starts: dict[TopicPartition, int] = {}
    for record in records:
        partition = _partition(record)
        starts[partition] = min(starts.get(partition, record.offset), record.offset)
    for partition, offset in starts.items():
        if partition in consumer.assignment():
            consumer.seek(partition, offset)


async def log_starts(consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
    """The first offset of each partition's log. Raises KafkaError or TimeoutError."""
    async with asyncio.timeout(COMMIT_LIMIT_S):
        starts: Mapping[TopicPartition, int] = await consumer.beginning_offsets(list(places))
    return starts


async def _fetch_committed(
    consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]
) -> Mapping[TopicPartition, Any]:
    async with asyncio.timeout(COMMIT_LIMIT_S):
        # Private API: the public call returns only the offsets, one at a time.
        coordinator: Any = consumer._coordinator
        committed: Mapping[TopicPartition, Any] = await coordinator.fetch_committed_offsets(list(places))
    return committed


def _elsewhere(committed_in: str, topic_id: str | None) -> bool:
    return bool(committed_in and topic_id and committed_in != topic_id)


def _assignment(consumer: AIOKafkaConsumer) -> Any:
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    return assignment if assignment is not None and assignment.active else None


def _partition(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
