"""Reading from Kafka past what the client cannot read.

aiokafka 0.14 decodes the names of headers as UTF-8 within its fetcher. Where one is not, its poll raises, at every
repeat, and what it had already taken from other partitions is gone though their positions have moved on. The records
behind it that its producer sent in one piece with it can't be had from aiokafka either.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

Records = tuple["ConsumerRecord[bytes, bytes]", ...]

_STEP_MS: Final = 500
_SETTLING_MS: Final = 50
_NOWHERE: Final = TopicPartition("", -1)


class Unreadable(ConsumerRecord[bytes, bytes]):
    """Stands for a record of which only the place is known."""


async def poll(
    consumer: AIOKafkaConsumer,
    *,
    timeout_ms: int,
    max_records: int,
    without: AbstractSet[TopicPartition] = frozenset(),
) -> Records:
    """What has arrived, partition by partition in order; empty after `timeout_ms` without anything, or sooner.

    Nothing is taken from the partitions `without`.
    """
    before = _positions(consumer)
    if len(before) < len(consumer.assignment()):
        timeout_ms = min(timeout_ms, _SETTLING_MS)
    before = {partition: position for partition, position in before.items() if partition not in without}
    try:
        # Partitions of which we don't know where to go back to have to wait.
        fetched = await consumer.getmany(*(before or [_NOWHERE]), timeout_ms=timeout_ms, max_records=max_records)
    except UnicodeDecodeError:
        return await _step_by_step(consumer, before, max_records)
    return tuple(record for records in fetched.values() for record in records)


async def idle(consumer: AIOKafkaConsumer, *, timeout_ms: int) -> None:
    """Take nothing for a while, and stay a member of the group: Kafka's client leaves it if it is not polled."""
    await consumer.getmany(_NOWHERE, timeout_ms=timeout_ms)


async def _step_by_step(consumer: AIOKafkaConsumer, before: dict[TopicPartition, int], max_records: int) -> Records:
    for partition in before.keys() & consumer.assignment():
        consumer.seek(partition, before[partition])
    found: list[ConsumerRecord[bytes, bytes]] = []
    for partition, start in before.items():
        position = start
        while _has_more(consumer, partition, position) and len(found) < max_records:
            try:
                fetched = await consumer.getmany(partition, timeout_ms=_STEP_MS, max_records=1)
            except UnicodeDecodeError:
                found.append(_unreadable(partition, position))
                consumer.seek(partition, position + 1)
                break
            if not (records := fetched.get(partition)):
                break
            found += records
            position = records[-1].offset + 1
    return tuple(found)


def _has_more(consumer: AIOKafkaConsumer, partition: TopicPartition, position: int) -> bool:
    if partition not in consumer.assignment():
        return False
    high = consumer.highwater(partition)
    return high is not None and position < high


def _positions(consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
    # Private, as the public call waits for a position where there is none yet.
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    if assignment is None:
        return {}
    states = {partition: assignment.state_value(partition) for partition in assignment.tps}
    return {partition: state.position for partition, state in states.items() if state.has_valid_position}


def _unreadable(partition: TopicPartition, offset: int) -> Unreadable:
    return Unreadable(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=-1,
        timestamp_type=0,
        key=None,
        value=None,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        headers=(),
    )
