"""Creates every Kafka broker object, without the defaults that would lose messages.

By default FastStream 0.7.8 and aiokafka 0.14 acknowledge before processing, read from the latest offset, create topics
of one partition, and drop a whole batch if one header is not UTF-8. All of this is turned off here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    RecordTooLargeError,
    UnknownProducerId,
    UnknownTopicOrPartitionError,
)
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.message import FAKE_CONSUMER

from chassis.kafka.metadata import never_create_topics
from chassis.kafka.records import Records, read_past_unreadable
from chassis.kafka.topics import require_topics
from chassis.runtime.runtime import Runtime
from contracts.envelope import Record
from contracts.topics import MAX_MESSAGE_BYTES, Topic

ASK_AGAIN_S = 1.0
METADATA_AGE_MS = 10_000
"""How soon a group's leader learns of a topic that was created again or has more partitions, in milliseconds."""
PRODUCER_BATCH_BYTES = 256 * 1024
"""The largest batch of small records, in bytes; a larger record is sent alone."""

TOO_LARGE = (MessageSizeTooLargeError, RecordTooLargeError)
PRODUCER_LOST = (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)
"""Errors after which a producer cannot publish any more and has to be replaced."""


class SegueBroker(KafkaBroker):
    """A broker that stores its producer's fatal error and the topics that were missing."""

    lost: BaseException | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.missed: dict[str, float] = {}
        """Topics that the cluster did not have, and when it was last asked (monotonic seconds)."""


def make_broker(
    bootstrap_servers: str, service: str, *, idempotent: bool = True, request_timeout_s: float = 10
) -> KafkaBroker:
    """A broker that acknowledges nothing by itself and publishes to all in-sync replicas.

    An idempotent producer retries through an outage. The other kind raises after `request_timeout_s`; the record may
    still be stored later.
    """
    never_create_topics()
    read_past_unreadable()
    return SegueBroker(
        bootstrap_servers.split(","),
        client_id=f"segue-{service}",
        acks="all",
        enable_idempotence=idempotent,
        request_timeout_ms=int(request_timeout_s * 1000),
        allow_auto_create_topics=False,
        max_request_size=MAX_MESSAGE_BYTES,
        max_batch_size=PRODUCER_BATCH_BYTES,
        metadata_max_age_ms=METADATA_AGE_MS,
        graceful_timeout=20,
        parser=_whole_batch,
        decoder=_untouched,
        apply_types=False,
        logger=logging.getLogger("chassis.faststream"),
        log_level=logging.DEBUG,
    )


def client_of(broker: KafkaBroker) -> AIOKafkaProducer:
    """The producer of a started broker."""
    # Private API, as there is no public one.
    producer: Any = broker.config.broker_config.producer
    client: AIOKafkaProducer = producer._producer.producer
    return client


async def _whole_batch(records: Records | ConsumerRecord[bytes, bytes]) -> KafkaMessage:
    # FastStream's parser decodes every header as UTF-8 and drops the batch if one is not.
    return KafkaMessage(body=b"", raw_message=records, headers={}, consumer=FAKE_CONSUMER)


async def _untouched(message: KafkaMessage) -> Any:
    return message.raw_message


@asynccontextmanager
async def connected(
    broker: KafkaBroker, runtime: Runtime, bootstrap_servers: str, topics: Iterable[Topic]
) -> AsyncIterator[None]:
    """Keep the broker's producer connected for as long as the block lasts; if it fails before, the process exits.

    Raises CannotStart if no broker answers, or if a topic is missing.
    """
    await require_topics(bootstrap_servers, topics)
    try:
        await broker.connect()
        runtime.must_live(lambda: _dead_producer(broker))
        yield
    finally:
        await broker.stop()


def _dead_producer(broker: KafkaBroker) -> str | None:
    """The part of the producer that has failed for good, which FastStream's ping does not detect; None if it works."""
    if isinstance(broker, SegueBroker) and broker.lost is not None:
        return f"the producer, for good: {broker.lost!r}"
    # Private API, as there is no public one: aiokafka does not report that its sender has failed.
    sender = client_of(broker)._sender.sender_task if broker.config.broker_config.producer else None
    return "the producer's sender task" if sender is not None and sender.done() else None


async def require_known(broker: KafkaBroker, topic: str) -> None:
    """Raises UnknownTopicOrPartitionError at once if the topic is missing; the cluster is asked once a second at most.

    The producer itself would wait for the topic up to its request timeout, for each record, while records of other
    topics wait behind it.
    """
    client = client_of(broker).client
    missed = broker.missed if isinstance(broker, SegueBroker) else {}
    if not client.cluster.partitions_for_topic(topic) and time.monotonic() - missed.get(topic, -inf) > ASK_AGAIN_S:
        await client.add_topic(topic)
        await client.force_metadata_update()
        missed[topic] = time.monotonic()
    if not client.cluster.partitions_for_topic(topic):
        raise UnknownTopicOrPartitionError(topic)
    missed.pop(topic, None)


def missed_topics(broker: KafkaBroker, within_s: float) -> list[str]:
    """Topics that were missing when the cluster was last asked, if that was in the last `within_s` seconds."""
    since = time.monotonic() - within_s
    return [topic for topic, at in broker.missed.items() if at > since] if isinstance(broker, SegueBroker) else []


async def publish(broker: KafkaBroker, record: Record, timestamp_ms: int | None = None) -> asyncio.Future[Any]:
    """Hand a record to the producer; the future is done when all in-sync replicas have it.

    `timestamp_ms` is the record's time, as Unix time in milliseconds, unless the brokers set it; None means this
    machine's time. Raises KafkaError if the producer does not take it, UnknownTopicOrPartitionError if the topic is
    missing.
    """
    await require_known(broker, record.topic)
    # FastStream would decode and encode the headers, and add a correlation_id that nobody reads.
    future: asyncio.Future[Any] = await client_of(broker).send(
        record.topic, record.value, key=record.key, timestamp_ms=timestamp_ms, headers=list(record.headers)
    )
    future.add_done_callback(lambda done: _notice_loss(broker, done))
    return future


def _notice_loss(broker: KafkaBroker, done: asyncio.Future[Any]) -> None:
    if isinstance(broker, SegueBroker) and not done.cancelled() and isinstance(done.exception(), PRODUCER_LOST):
        broker.lost = done.exception()


async def publish_batch(broker: KafkaBroker, records: Sequence[Record], place: TopicPartition) -> asyncio.Future[Any]:
    """Hand records to the producer as one batch, whatever their keys; the future is done once Kafka has stored them."""
    producer = client_of(broker)
    batch = producer.create_batch()
    for record in records:
        batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
    batch.close()
    sent: asyncio.Future[Any] = await producer.send_batch(batch, place.topic, partition=place.partition)

    def noticed(done: asyncio.Future[Any]) -> None:
        _notice_loss(broker, done)
        if not done.cancelled() and isinstance(done.exception(), TOO_LARGE):
            # Private API, as there is no public one: aiokafka has advanced its sequence number, and Kafka would refuse
            # all later batches.
            numbers: Any = producer._txn_manager
            numbers.increment_sequence_number(place, -len(records))

    sent.add_done_callback(noticed)
    return sent
