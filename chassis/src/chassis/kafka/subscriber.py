"""The subscriber of a service's group: it passes on whole batches, and is run with checks of the tasks behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faststream.kafka.subscriber.usecase import BatchSubscriber
from faststream.middlewares import AckPolicy

from chassis.errors import CannotStart
from chassis.kafka.access import DENIED, denied_by
from chassis.kafka.broker import SegueBroker
from chassis.kafka.records import Records
from chassis.observability.log_events import KafkaEvent
from chassis.observability.logs import get_logger
from chassis.runtime.runtime import Runtime
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import Topic

REBALANCE_TIMEOUT_S: Final = 60
HEARTBEAT_S: Final = 0.5
DENIED_S: Final = 5.0
"""The pause after a poll that the cluster denied, in seconds."""

NextBatch = Callable[[AIOKafkaConsumer], Awaitable[Records]]
"""Returns the next records, after about a second at most; may be empty."""
OnBatch = Callable[[Records], Awaitable[None]]
OnDenied = Callable[[Exception], None]
"""Called with the error by which the cluster denied a poll."""
OnRevoked = Callable[[], Awaitable[None]]
"""Called before partitions are given up in a rebalance; the group waits for it."""


@dataclass(frozen=True, slots=True)
class Gather:
    """What a broker gathers before it answers a fetch, so that many records come as one batch."""

    min_bytes: int
    """Bytes of records upon which it answers at once."""
    within_ms: int
    """Milliseconds after which it answers with what it has."""


def batch_subscriber(
    broker: SegueBroker,
    topics: Iterable[Topic],
    runtime: Runtime,
    next_batch: NextBatch,
    on_batch: OnBatch,
    on_denied: OnDenied,
    on_revoked: OnRevoked,
    gather: Gather | None = None,
) -> BatchSubscriber:
    """A subscriber in the service's group that passes on raw batches from the earliest record, and commits nothing.

    With `gather`, a record waits for others at its broker; without, it is fetched at once. While the cluster denies the
    group or a topic, it polls every 5 s.
    """
    consuming, names = runtime.consuming, broker.cluster.names
    gather = gather or Gather(1, consuming.fetch_wait_ms)

    async def permitted(consumer: AIOKafkaConsumer) -> Records:
        try:
            return await next_batch(consumer)
        except DENIED as error:  # FastStream would log each with a traceback.
            on_denied(error)
            await runtime.pause(DENIED_S)
            return ()

    subscriber = broker.subscriber(
        *map(names.of, topics),
        group_id=names.group(runtime.service),
        batch=True,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
        session_timeout_ms=int(consuming.session_timeout_s * 1000),
        # A member learns of a rebalance by its next heartbeat, and the others wait for it meanwhile.
        heartbeat_interval_ms=int(min(consuming.session_timeout_s / 5, HEARTBEAT_S) * 1000),
        rebalance_timeout_ms=REBALANCE_TIMEOUT_S * 1000,
        # Range gives one member the same partition of every topic, so one replica gets all messages of a job.
        partition_assignment_strategy=(RangePartitionAssignor,),
        fetch_min_bytes=gather.min_bytes,
        fetch_max_wait_ms=min(gather.within_ms, consuming.fetch_wait_ms),
        listener=_Revoked(on_revoked),
        no_reply=True,
    )
    # A join is answered only when every other member has joined too; the producer's time-out is too short for that.
    joining_s = REBALANCE_TIMEOUT_S + 15
    subscriber._connection_args = {**subscriber._connection_args, "request_timeout_ms": joining_s * 1000}
    # After an empty poll FastStream sleeps for as long as the poll took, and fetches nothing meanwhile.
    setattr(subscriber, "get_msg", permitted)  # noqa: B010 - mypy would refuse an assignment to a method
    subscriber(on_batch)
    return subscriber


@asynccontextmanager
async def subscribed(subscriber: BatchSubscriber, cluster: KafkaCluster, runtime: Runtime) -> AsyncIterator[None]:
    """Fetch batches for as long as the block lasts; on leaving, let the current one be finished and committed.

    The process exits when the consumer, its coordinator, its fetcher or the reading of its metadata has failed: none of
    them recovers by itself.
    Raises CannotStart if the cluster denies the group.
    """
    runtime.must_live(lambda: _dead(subscriber))
    subscriber._connection_args = {**subscriber._connection_args, "group_instance_id": runtime.member}
    try:
        try:
            await subscriber.start()
        except DENIED as error:
            denied = denied_by(error, cluster, cluster.names.group(runtime.service))
            raise CannotStart(f"{cluster.setting}: {denied}") from error
        yield
    finally:
        if subscriber.consumer is not None:
            _leave_at_stop(subscriber.consumer)
        try:
            await stopped(subscriber.stop())
        except Exception as error:  # noqa: BLE001 - handled records are committed; the rest is delivered again
            get_logger("chassis.kafka.subscriber").warning(KafkaEvent.CONSUMER_STOP_FAILED, error=repr(error))


async def stopped(stop: Coroutine[Any, Any, None], *, within_s: float | None = None) -> None:
    """Run the stop of a consumer to its end, or for at most `within_s` seconds; raises the error that it raises.

    A CancelledError of its own is not raised: aiokafka's stop raises that of its fetch task if the task is pausing
    before a retry, and the caller would take it for its own cancellation.
    """
    stopping = asyncio.create_task(stop)
    try:
        await asyncio.wait([stopping], timeout=within_s)
    finally:
        stopping.cancel()
    if stopping.done() and not stopping.cancelled():
        stopping.result()


class _Revoked(ConsumerRebalanceListener):
    def __init__(self, on_revoked: OnRevoked) -> None:
        self._on_revoked = on_revoked

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._on_revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        pass


def _leave_at_stop(consumer: AIOKafkaConsumer) -> None:
    # Private API, as there is no public one: aiokafka has a member with an identity stay in the group when it stops,
    # and its partitions would stand still until it is back or its session ends.
    coordinator: Any = consumer._coordinator
    coordinator._group_instance_id = None


def _dead(subscriber: BatchSubscriber) -> str | None:
    task = _dead_task(subscriber)
    return f"{task} of {', '.join(subscriber.topic_names)}" if task else None


def _dead_task(subscriber: BatchSubscriber) -> str | None:
    # Private API, as there is no public one: aiokafka and FastStream do not report that one of these has failed.
    consumer = subscriber.consumer
    if not subscriber.running or consumer is None:
        return None
    # The consume loop comes last: it also ends when one of the others fails.
    if _done(getattr(consumer._coordinator, "_coordination_task", None)):
        return "the group coordinator task"
    if _done(getattr(consumer._fetcher, "_fetch_task", None)):
        return "the fetch task"
    if _done(getattr(consumer._client, "_sync_task", None)):
        return "the metadata task"
    if any(task.done() for task in subscriber.tasks):
        return "the consume loop"
    return None


def _done(task: asyncio.Task[Any] | None) -> bool:
    return task is not None and task.done()
