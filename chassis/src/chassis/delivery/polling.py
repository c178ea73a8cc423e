"""Polling a consumer without losing fetched records when a poll fails, and with many records at a time under load."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka.records import Records

_SETTLING_MS: Final = 50
_NOWHERE: Final = TopicPartition("", -1)
MANY: Final = 4
"""So many records in one poll are of several jobs that go on at the same time."""
GATHER_S: Final = 0.01
"""The pause after such a poll, in seconds: a poll, and what follows from it, costs as much as several records."""
ENOUGH: Final = 100
"""After a poll of so many records more are waiting, and one poll costs little of what they cost."""


class PollPause:
    """Lets records gather between two polls while there are many, so that the next one returns more of them."""

    def __init__(self) -> None:
        self._many = False

    async def wait(self) -> None:
        """Wait before a poll, if the last one returned many records, and no more of them were waiting."""
        if self._many:
            await asyncio.sleep(GATHER_S)

    def note(self, records: int, limit: int) -> None:
        """Note how many records a poll returned, and how many at most."""
        self._many = MANY <= records < min(limit, ENOUGH)


async def poll(
    consumer: AIOKafkaConsumer,
    *,
    timeout_ms: int,
    max_records: int,
    without: AbstractSet[TopicPartition] = frozenset(),
) -> Records:
    """Fetched records, in order within each partition; empty if none arrive within `timeout_ms`.

    No records are fetched from the partitions in `without`.
    """
    before = positions(consumer)
    if len(before) < len(consumer.assignment()):
        timeout_ms = min(timeout_ms, _SETTLING_MS)
    wanted = before.keys() - without
    try:
        # A partition without a known position to return to is not polled yet.
        fetched = await consumer.getmany(*(wanted or [_NOWHERE]), timeout_ms=timeout_ms, max_records=max_records)
    except Exception:
        # Records already taken from other partitions are lost, though their positions have advanced.
        for partition in wanted & consumer.assignment():
            consumer.seek(partition, before[partition])
        raise
    return tuple(record for records in fetched.values() for record in records)


async def idle(consumer: AIOKafkaConsumer, *, timeout_ms: int) -> None:
    """Poll without fetching, to stay a member of the group: Kafka's client leaves the group if it is not polled."""
    await consumer.getmany(_NOWHERE, timeout_ms=timeout_ms)


def positions(consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
    """The position of each partition that has one: the offset of the next fetch, past transaction markers."""
    # Private API: the public call waits until a partition has a position.
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    if assignment is None:
        return {}
    states = {partition: assignment.state_value(partition) for partition in assignment.tps}
    return {partition: state.position for partition, state in states.items() if state.has_valid_position}
