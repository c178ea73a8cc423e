"""Putting a message into Kafka before the client hears that it was taken."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from aiokafka.errors import KafkaError

from chassis.kafka.broker import publish
from chassis.observability.logs import get_logger
from contracts.envelope import Envelope, Record, encode
from contracts.messages.base import Message
from contracts.messages.requests import JobRequested
from gateway.context import Gateway
from gateway.http.problems import Problem

PUBLISH_LIMIT_S: Final = 4.5
"""From a request's arrival to its 503, all in."""
PRODUCER_TIMEOUT_S: Final = 4.2
"""After this the producer itself gives up, so that nothing arrives in Kafka much later than the client was told."""
RETRY_AFTER_S: Final = 5


_LOG_APPEND_TIME: Final = 1
_CLOCKS_BEGIN_S: Final = 1_000_000_000
"""The embedded cluster stamps nothing, and answers with the same second of 1970 each time."""


class TooLate(Exception):
    """The request is in the log, after its acceptance deadline by Kafka's clock: it will not be run."""


async def publish_and_tail(
    gateway: Gateway, message: Message, *, parent: str | None, deadline: float, key: str | None = None
) -> None:
    """Publish as `publish_message` does, and let our own tail know. Raises TooLate."""
    record, arrived_at = await publish_message(gateway, message, parent=parent, deadline=deadline, key=key)
    if isinstance(message, JobRequested) and arrived_at is not None and arrived_at > message.accept_by:
        told = {"arrived_at": arrived_at.isoformat(), "accept_by": message.accept_by.isoformat()}
        get_logger("gateway").warning("by Kafka's clock a request came too late", job_id=message.job_id, **told)
        raise TooLate
    headers = {name: value.decode() for name, value in record.headers}
    envelope = Envelope(message, headers["ce_id"], headers["ce_source"], headers.get("traceparent"), len(record.value))
    gateway.tail.take(envelope, arrived_at or gateway.clocks.kafka_now())


async def publish_message(
    gateway: Gateway, message: Message, *, parent: str | None, deadline: float, key: str | None = None
) -> tuple[Record, datetime | None]:
    """Publish to all in-sync replicas by `deadline` (the loop's clock); returns the record, and the broker's stamp.

    The stamp is None where the topic's records have their producers' times. Raises Problem (503) if the publication
    cannot be confirmed; the message may still arrive. `key` is the Idempotency-Key that makes a repeat safe.
    """
    record, clocks = _record(gateway, message, parent), gateway.clocks
    try:
        async with asyncio.timeout_at(deadline):
            timestamp_ms = int(clocks.kafka_now().timestamp() * 1000)
            sent_s = clocks.steady()
            metadata: Any = await (await publish(gateway.broker, record, timestamp_ms))
    except (KafkaError, TimeoutError, OSError) as error:
        get_logger("gateway").warning("kafka did not take it in time", job_id=message.job_id, error=repr(error))
        raise _unconfirmed(key) from error
    stamped_s = metadata.timestamp / 1000
    if metadata.timestamp_type != _LOG_APPEND_TIME or stamped_s < _CLOCKS_BEGIN_S:
        return record, None
    clocks.learn("kafka", stamped_s, sent_s, clocks.steady())
    return record, datetime.fromtimestamp(stamped_s, UTC)


def _record(gateway: Gateway, message: Message, parent: str | None) -> Record:
    runtime = gateway.runtime
    unsent = encode(message, source=runtime.service, traceparent=None)
    sent = runtime.telemetry.sent(unsent.topic, parent=parent, job_id=message.job_id, event_type=message.TYPE)
    return encode(message, source=runtime.service, traceparent=sent)


def too_late(key: str) -> Problem:
    """The brokers' clocks, and those of the gateway and the database, are too far apart to tell what is in time."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "clocks-differ",
        "by Kafka's clock the request arrived after its acceptance deadline, so it is not run and costs nothing: the "
        "clocks of the brokers, the database and this machine have to be set; repeat it with the same Idempotency-Key",
        headers={"Retry-After": str(RETRY_AFTER_S), "Idempotency-Key": key},
        idempotency_key=key,
    )


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
