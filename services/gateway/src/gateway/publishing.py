"""Putting a message into Kafka before the client hears that it was taken."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from aiokafka.errors import KafkaError

from chassis.broker import publish
from chassis.logs import get_logger
from contracts.envelope import Envelope, Record, encode
from contracts.message import Message
from gateway.context import Gateway
from gateway.problems import Problem

PUBLISH_LIMIT_S: Final = 4.5
"""From a request's arrival to its 503, all in."""
PRODUCER_TIMEOUT_S: Final = 4.2
"""After this the producer itself gives up, so that nothing arrives in Kafka much later than the client was told."""
RETRY_AFTER_S: Final = 5


async def publish_durably(
    gateway: Gateway, message: Message, *, parent: str | None, deadline: float, key: str | None = None
) -> None:
    """Publish as `publish_confirmed` does, and let our own tail know."""
    record = await publish_confirmed(gateway, message, parent=parent, deadline=deadline, key=key)
    headers = {name: value.decode() for name, value in record.headers}
    gateway.tail.take(
        Envelope(message, headers["ce_id"], headers["ce_source"], headers.get("traceparent"), len(record.value))
    )


async def publish_confirmed(
    gateway: Gateway, message: Message, *, parent: str | None, deadline: float, key: str | None = None
) -> Record:
    """Publish to all in-sync replicas by `deadline` (the loop's clock).

    Raises Problem (503) if that cannot be confirmed; the message may still arrive. `key` is the Idempotency-Key that
    makes a repeat safe.
    """
    record = _record(gateway, message, parent)
    try:
        async with asyncio.timeout_at(deadline):
            await (await publish(gateway.broker, record))
    except (KafkaError, TimeoutError, OSError) as error:
        get_logger("gateway").warning("kafka did not take it in time", job_id=message.job_id, error=repr(error))
        raise _unconfirmed(key) from error
    return record


def _record(gateway: Gateway, message: Message, parent: str | None) -> Record:
    runtime = gateway.runtime
    unsent = encode(message, source=runtime.service, traceparent=None)
    sent = runtime.telemetry.sent(unsent.topic, parent=parent, job_id=message.job_id, event_type=message.TYPE)
    return encode(message, source=runtime.service, traceparent=sent)


def _unconfirmed(key: str | None) -> Problem:
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    again = "repeating it is safe"
    if key is not None:
        headers["Idempotency-Key"] = key
        again = "repeat it with the same Idempotency-Key, which is safe: it can only become the same job"
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "not-confirmed",
        f"Kafka did not confirm the request in time; it may still have been taken, so {again}",
        headers=headers,
        idempotency_key=key,
    )
