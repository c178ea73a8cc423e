"""Where a consumer stands: what it has dealt with is committed, what it has not is read again.

An offset means something in one topic only. A topic that was deleted and created again starts at 0, and an offset of
the one before would silently skip what lies below it. So each commit names the topic's id in its metadata, and a
position that comes from an earlier topic of the same name is given up for the start: what is read twice is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from chassis.logs import get_logger
from chassis.metadata import TopicState
from chassis.metrics import CONSUMER_LAG

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    Record = ConsumerRecord[bytes, bytes]

COMMIT_LIMIT_S: Final = 10.0
"""The client itself would wait for as long as Kafka is away."""


class Offsets:
    """The offsets of one consumer, and the ids of the topics that they are of."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._checked: object | None = None
        self._log = get_logger("chassis.delivery")

    def checked(self, consumer: AIOKafkaConsumer) -> bool:
        """Whether the positions of the partitions it has now are known to be of the topics that are there now."""
        return self._checked is not None and self._checked is _assignment(consumer)

    async def check(self, consumer: AIOKafkaConsumer, there: Mapping[str, TopicState]) -> None:
        """Go back to the start of each topic that was created again since its offsets were committed, or last checked.

        To be called when partitions were assigned and whenever the cluster was asked for its topics, never beside a
        poll. Raises KafkaError or TimeoutError.
        """
        assignment = _assignment(consumer)
        if assignment is None:
            return
        ids = {name: state.id for name, state in there.items() if state.id}
        anew = {name for name, found in ids.items() if self._ids.get(name, found) != found}
        stale = {place for place in assignment.tps if place.topic in anew}
        if assignment is not self._checked:
            stale |= await _committed_elsewhere(consumer, assignment.tps, ids)
        for place in stale & consumer.assignment():
            consumer.seek(place, 0)  # Where the log begins later, Kafka's client moves to its start.
        if stale:
            self._log.warning(
                "topics were deleted and created again; they are read from their start",
                topics=sorted({place.topic for place in stale}),
            )
        self._ids |= ids
        self._checked = assignment

    async def commit(self, consumer: AIOKafkaConsumer, records: Sequence[Record]) -> None:
        """Commit past `records` where the partitions are still ours; where that fails they come again."""
        ends: dict[TopicPartition, int] = {}
        for record in records:
            partition = _partition(record)
            ends[partition] = max(ends.get(partition, 0), record.offset + 1)
        ours = {
            partition: (end, self._ids.get(partition.topic, ""))
            for partition, end in ends.items()
            if partition in consumer.assignment()
        }
        if not ours:
            return
        try:
            async with asyncio.timeout(COMMIT_LIMIT_S):
                await consumer.commit(ours)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            # What was done is in the database; whoever reads the batch again drops it as seen.
            self._log.warning("offsets not committed; the batch comes again", error=repr(error))


def rewind(consumer: AIOKafkaConsumer, records: Sequence[Record]) -> None:
    """Have the next poll begin with `records` again, where the partitions are still ours."""
    starts: dict[TopicPartition, int] = {}
    for record in records:
        partition = _partition(record)
        starts[partition] = min(starts.get(partition, record.offset), record.offset)
    for partition, offset in starts.items():
        if partition in consumer.assignment():
            consumer.seek(partition, offset)


def measure_lag(consumer: AIOKafkaConsumer, records: Sequence[Record]) -> None:
    """Note how much is left to read behind `records`, where the partitions are still ours."""
    lasts = {_partition(record): record.offset for record in records}
    for partition, last in lasts.items():
        if partition in consumer.assignment() and (high := consumer.highwater(partition)) is not None:
            CONSUMER_LAG.labels(partition.topic, str(partition.partition)).set(max(0, high - last - 1))


async def _committed_elsewhere(
    consumer: AIOKafkaConsumer, places: frozenset[TopicPartition], ids: Mapping[str, str]
) -> set[TopicPartition]:
    async with asyncio.timeout(COMMIT_LIMIT_S):
        # Private: the public call tells the offsets alone, one by one.
        coordinator: Any = consumer._coordinator
        committed = await coordinator.fetch_committed_offsets(list(places))
    return {
        place
        for place, offset in committed.items()
        if offset.metadata and offset.metadata != ids.get(place.topic, offset.metadata)
    }


def _assignment(consumer: AIOKafkaConsumer) -> Any:
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    return assignment if assignment is not None and assignment.active else None


def _partition(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
