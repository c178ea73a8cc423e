"""Whether the tasks behind a broker live: aiokafka and FastStream tell nobody when one of them dies."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber

from chassis.kafka.broker import SegueBroker, client_of
from chassis.observability.logs import get_logger
from chassis.runtime.runtime import Runtime


def watch_broker(broker: KafkaBroker, runtime: Runtime) -> None:
    """Have the process end when a consumer, its coordinator or fetcher, or the producer has died.

    None of these come back by themselves, and FastStream's ping stays true all the while.
    """

    def dead() -> str | None:
        for subscriber in broker.subscribers:
            if isinstance(subscriber, BatchSubscriber) and (why := _dead_consumer(subscriber)):
                return f"{why} of {', '.join(subscriber.topic_names)}"
        if isinstance(broker, SegueBroker) and broker.lost is not None:
            return f"the producer, for good: {broker.lost!r}"
        # Private, for want of anything public: aiokafka tells nobody that its sender has died.
        sender = client_of(broker)._sender.sender_task if broker.config.broker_config.producer else None
        return "the producer's sender task" if sender is not None and sender.done() else None

    runtime.must_live(dead)
    get_logger("chassis.kafka.broker_watch").debug("watching the broker's tasks")


def _dead_consumer(subscriber: BatchSubscriber) -> str | None:
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
