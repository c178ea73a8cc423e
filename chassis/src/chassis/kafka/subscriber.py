"""The subscriber of a service's group: made for whole batches, and run with a watch over the tasks behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber
from faststream.middlewares import AckPolicy

from chassis.kafka.records import Records
from chassis.observability.log_events import KafkaEvent
from chassis.observability.logs import get_logger
from chassis.runtime.runtime import Runtime
from contracts.topics import Topic

REBALANCE_TIMEOUT_S: Final = 60

NextBatch = Callable[[AIOKafkaConsumer], Awaitable[Records]]
"""Waits for the next records, for a second or so; none is an answer, too."""
OnBatch = Callable[[Records], Awaitable[None]]


def batch_subscriber(
    broker: KafkaBroker, topics: Iterable[Topic], runtime: Runtime, next_batch: NextBatch, on_batch: OnBatch
) -> BatchSubscriber:
    """A subscriber in the service's group that hands over raw batches from the earliest record, and commits nothing."""
    consuming = runtime.consuming
    subscriber = broker.subscriber(
        *(topic.name for topic in topics),
        group_id=runtime.service,
        batch=True,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
        session_timeout_ms=int(consuming.session_timeout_s * 1000),
        heartbeat_interval_ms=int(min(consuming.session_timeout_s / 5, 3) * 1000),
        rebalance_timeout_ms=REBALANCE_TIMEOUT_S * 1000,
        # Range gives one member the same partition of every topic, so one replica sees all of a job.
        partition_assignment_strategy=(RangePartitionAssignor,),
        fetch_max_wait_ms=consuming.fetch_wait_ms,
        no_reply=True,
    )
    # A join is answered only when every other member has joined too: the producer's time-out would give up on it early.
    joining_s = REBALANCE_TIMEOUT_S + 15
    subscriber._connection_args = {**subscriber._connection_args, "request_timeout_ms": joining_s * 1000}
    # After an empty poll FastStream sleeps for as long as it has just polled, deaf to what arrives.
    setattr(subscriber, "get_msg", next_batch)  # noqa: B010 - the seam mypy would call a method assignment
    subscriber(on_batch)
    return subscriber


@asynccontextmanager
async def subscribed(subscriber: BatchSubscriber, runtime: Runtime) -> AsyncIterator[None]:
    """Fetch batches for as long as the block lasts; on leaving, let the one in hand be finished and committed.

    The process ends when the consumer, its coordinator or its fetcher has died: none of them comes back by itself.
    """
    runtime.must_live(lambda: _dead(subscriber))
    try:
        await subscriber.start()
        yield
    finally:
        try:
            await subscriber.stop()
        except Exception as error:  # noqa: BLE001 - what was handled is committed; the rest comes again
            get_logger("chassis.kafka.subscriber").warning(KafkaEvent.CONSUMER_STOP_FAILED, error=repr(error))


def _dead(subscriber: BatchSubscriber) -> str | None:
    task = _dead_task(subscriber)
    return f"{task} of {', '.join(subscriber.topic_names)}" if task else None


def _dead_task(subscriber: BatchSubscriber) -> str | None:
    # Private, for want of anything public: aiokafka and FastStream tell nobody when one of these dies.
    consumer = subscriber.consumer
    if not subscriber.running or consumer is None:
        return None
    # The loop last: it dies of the others' deaths too.
    if _done(getattr(consumer._coordinator, "_coordination_task", None)):
        return "the group coordinator task"
    if _done(getattr(consumer._fetcher, "_fetch_task", None)):
        return "the fetch task"
    if any(task.done() for task in subscriber.tasks):
        return "the consume loop"
    return None


def _done(task: asyncio.Task[Any] | None) -> bool:
    return task is not None and task.done()
