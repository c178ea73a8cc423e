"""Writing without gaps in the sequence numbers of an idempotent producer, whatever happens to a partition's leader."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import LeaderNotAvailableError
from aiokafka.producer.message_accumulator import MessageAccumulator


@cache
def leave_no_gaps() -> None:
    """Have aiokafka's producers leave no gap in their sequence numbers if a partition has no leader.

    After the time-out of a request it fails the oldest batch of such a partition, with its numbers, and Kafka refuses
    all that follow. Here a batch that was never sent fails without numbers. One that was sent may have been stored: it
    waits for a leader, as it does after any other error. Until then the partition takes nothing else: what is handed
    over raises LeaderNotAvailableError at once, in the place of a wait for the batch before it.
    """
    accumulator: Any = MessageAccumulator
    drain = accumulator.drain_by_nodes

    def drained(self: Any, *given: Any, **named: Any) -> Any:
        for place in list(self._batches):
            if not _has_leader(self, place):
                _fail_expired(self, place)
        return drain(self, *given, **named)

    accumulator.drain_by_nodes = drained
    accumulator.add_message = _refusing(accumulator.add_message, 0)
    accumulator.add_batch = _refusing(accumulator.add_batch, 1)


def _refusing(add: Callable[..., Any], position: int) -> Callable[..., Any]:
    """`add`, of whose arguments the partition is at `position`."""

    @wraps(add)
    async def added(self: Any, *given: Any, **named: Any) -> Any:
        place: TopicPartition = given[position]
        if (queue := self._batches.get(place)) and _keeps_its_numbers(self, queue[0]) and not _has_leader(self, place):
            raise LeaderNotAvailableError
        return await add(self, *given, **named)

    return added


def _has_leader(accumulator: Any, place: TopicPartition) -> bool:
    return accumulator._cluster.leader_for_partition(place) not in (None, -1)


def _keeps_its_numbers(accumulator: Any, batch: Any) -> bool:
    """Whether the batch was sent with sequence numbers, which no other may have. It is the first of its partition."""
    return batch.retry_count > 0 and accumulator._txn_manager is not None


def _fail_expired(accumulator: Any, place: TopicPartition) -> None:
    """Fail the expired batches of a partition without a leader that have no sequence numbers yet."""
    queue = accumulator._batches[place]
    unsent = 0
    if queue[0].retry_count:
        unsent = 1
        # Also before it has expired: aiokafka looks again right after this.
        if _keeps_its_numbers(accumulator, queue[0]):
            setattr(queue[0], "_ctime", time.monotonic())  # noqa: B010 - an assignment looks unused to vulture
    while len(queue) > unsent and queue[unsent].expired():
        batch = queue[unsent]
        del queue[unsent]
        # Whoever waits for room behind it fails with it, and so stays behind it.
        batch.failure(exception=LeaderNotAvailableError())
        batch._drain_waiter.exception()  # Nobody may be waiting.
    if not queue:
        del accumulator._batches[place]
