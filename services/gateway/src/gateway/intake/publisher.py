"""Publishes messages, and waits until Kafka has confirmed them, before the client gets an answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import KafkaError
from opentelemetry import trace
from opentelemetry.trace import Span

from chassis.kafka.broker import publish
from chassis.observability.logs import get_logger
from chassis.observability.telemetry import Telemetry, end_sending, traceparent_of
from contracts.envelope import Envelope, Record, encode
from contracts.messages.base import Message
from contracts.messages.requests import JobRequested
from contracts.topics import topic_for
from gateway.clocks import Clocks
from gateway.intake.errors import ArrivedTooLate, NotConfirmed
from gateway.log_events import GatewayEvent
from gateway.queries.tail import JobTail, Place

if TYPE_CHECKING:
    from chassis.kafka.broker import SegueBroker

PUBLISH_LIMIT_S: Final = 4.5
"""Seconds until Kafka has to confirm the message of a request; after that the client is asked to repeat it."""
PRODUCER_TIMEOUT_S: Final = 4.2
"""Seconds after which the producer drops a message, so that none reaches Kafka long after the client's 503."""

_LOG_APPEND_TIME: Final = 1
"""The timestamp type of a topic with `message.timestamp.type=LogAppendTime`."""
_EARLIEST_S: Final = 1_000_000_000
"""Earlier timestamps are not a clock's: the embedded cluster returns a constant time in 1970."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes messages to all in-sync replicas.

    `deadline` is the time, by the loop's clock, until which Kafka has to confirm the message; NotConfirmed is raised
    after it. `parent` is the traceparent of the message; None: the current span's. `key` is the Idempotency-Key that
    makes a repeat safe.
    """

    broker: SegueBroker
    telemetry: Telemetry
    clocks: Clocks
    tail: JobTail

    async def publish_and_tail(
        self, message: Message, deadline: float, *, parent: str | None = None, key: str | None = None
    ) -> None:
        """Publish, and apply the message to this process's tail. Raises ArrivedTooLate, and NotConfirmed."""
        record, arrived_at, place = await self.publish(message, deadline, parent=parent, key=key)
        if isinstance(message, JobRequested) and arrived_at is not None and arrived_at > message.accept_by:
            get_logger("gateway").warning(
                GatewayEvent.REQUEST_TOO_LATE,
                job_id=message.job_id,
                arrived_at=arrived_at.isoformat(),
                accept_by=message.accept_by.isoformat(),
            )
            raise ArrivedTooLate(key)
        headers = dict(record.headers)
        traceparent = headers["traceparent"].decode() if "traceparent" in headers else None
        envelope = Envelope(
            message, headers["ce_id"].decode(), headers["ce_source"].decode(), traceparent, len(record.value)
        )
        if arrived_at is None:
            self.tail.take(envelope, self.clocks.kafka_now())
        else:
            self.tail.take_own(envelope, arrived_at, place)

    async def publish(
        self, message: Message, deadline: float, *, parent: str | None = None, key: str | None = None
    ) -> tuple[Record, datetime | None, Place]:
        """Publish; returns the record, the broker's timestamp if the topic has one, and where the record is.

        Raises NotConfirmed; the message may reach Kafka nevertheless.
        """
        record, span = self._record(message, parent or traceparent_of(trace.get_current_span()))
        published: set[int] = set()
        try:
            async with asyncio.timeout_at(deadline):
                timestamp_ms = int(self.clocks.kafka_now_s() * 1000)
                sent_s = self.clocks.steady()
                metadata: Any = await (await publish(self.broker, record, timestamp_ms))
            published.add(0)
        except (KafkaError, TimeoutError, OSError) as error:
            get_logger("gateway").warning(GatewayEvent.PUBLISH_UNCONFIRMED, job_id=message.job_id, error=repr(error))
            raise NotConfirmed(key) from error
        finally:
            end_sending({0: span}, published)
        appended_s = metadata.timestamp / 1000
        place = metadata.topic, metadata.partition, metadata.offset
        if metadata.timestamp_type != _LOG_APPEND_TIME or appended_s < _EARLIEST_S:
            return record, None, place
        self.clocks.learn("kafka", appended_s, sent_s, self.clocks.steady())
        return record, datetime.fromtimestamp(appended_s, UTC), place

    def _record(self, message: Message, parent: str | None) -> tuple[Record, Span | None]:
        topic = topic_for(message).name
        sent, span = self.telemetry.sending(topic, parent=parent, job_id=message.job_id, event_type=message.TYPE)
        return encode(message, source=self.telemetry.service, traceparent=sent), span
