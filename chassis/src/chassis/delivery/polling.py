"""Polling a consumer without losing what it had taken where the poll fails."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka.records import Records

_SETTLING_MS: Final = 50
_NOWHERE: Final = TopicPartition("", -1)


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
    before = positions(consumer)
    if len(before) < len(consumer.assignment()):
        timeout_ms = min(timeout_ms, _SETTLING_MS)
    wanted = before.keys() - without
    try:
        # Partitions of which we don't know where to go back to have to wait.
        fetched = await consumer.getmany(*(wanted or [_NOWHERE]), timeout_ms=timeout_ms, max_records=max_records)
    except Exception:
        # What was taken from other partitions is gone, though their positions have moved on.
        for partition in wanted & consumer.assignment():
            consumer.seek(partition, before[partition])
        raise
    return tuple(record for records in fetched.values() for record in records)


async def idle(consumer: AIOKafkaConsumer, *, timeout_ms: int) -> None:
    """Poll without fetching, to stay a member of the group: Kafka's client leaves it if it is not polled."""
    await consumer.getmany(_NOWHERE, timeout_ms=timeout_ms)


def positions(consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
    """Where the next poll goes on in each partition that has a position, past what is no record: see `offsets.py`."""
    # Private, as the public call waits for a position where there is none yet.
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    if assignment is None:
        return {}
    states = {partition: assignment.state_value(partition) for partition in assignment.tps}
    return {partition: state.position for partition, state in states.items() if state.has_valid_position}
