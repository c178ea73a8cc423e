"""Where a consumer stands: what it has dealt with is committed, what it has not is read again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from chassis.logs import get_logger
from chassis.metrics import CONSUMER_LAG

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    Record = ConsumerRecord[bytes, bytes]

COMMIT_LIMIT_S: Final = 10.0
"""The client itself would wait for as long as Kafka is away."""


async def commit(consumer: AIOKafkaConsumer, records: Sequence[Record]) -> None:
    """Commit past `records` where the partitions are still ours; where that fails they come again."""
    ends: dict[TopicPartition, int] = {}
    for record in records:
        partition = _partition(record)
        ends[partition] = max(ends.get(partition, 0), record.offset + 1)
    ours = {partition: end for partition, end in ends.items() if partition in consumer.assignment()}
    if not ours:
        return
    try:
        async with asyncio.timeout(COMMIT_LIMIT_S):
            await consumer.commit(ours)
    except (KafkaError, IllegalStateError, TimeoutError) as error:
        # What was done is in the database; whoever reads the batch again drops it as seen.
        get_logger("chassis.delivery").warning("offsets not committed; the batch comes again", error=repr(error))


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


def _partition(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
