"""The one place that makes a Kafka broker, and disarms what its defaults would lose.

FastStream 0.7.8 and aiokafka 0.14 out of the box acknowledge first, read from the latest offset, create topics of one
partition, and drop a whole batch for one header that is not UTF-8. None of that is left on here.
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
"""How soon a group's leader learns of a topic that is back, or has more partitions, and shares it out."""
PRODUCER_BATCH_BYTES = 256 * 1024
"""The largest batch that a producer makes of small records; larger ones go alone."""

TOO_LARGE = (MessageSizeTooLargeError, RecordTooLargeError)
PRODUCER_LOST = (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)
"""Refusals that a producer gets for everything from then on, until it is made anew."""


class SegueBroker(KafkaBroker):
    """A broker that remembers what its producer was refused for good, and which topics were not there."""

    lost: BaseException | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.missed: dict[str, float] = {}
        """Topics that the cluster did not have, and when it was last asked (monotonic seconds)."""


def make_broker(
    bootstrap_servers: str, service: str, *, idempotent: bool = True, request_timeout_s: float = 10
) -> KafkaBroker:
    """A broker that acknowledges nothing by itself and publishes to all in-sync replicas.

    An idempotent producer waits through an outage; the other kind gives up after `request_timeout_s`, though what it
    gave up on may still arrive.
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
    """The producer below a broker that was started."""
    # Private, for want of anything public.
    producer: Any = broker.config.broker_config.producer
    client: AIOKafkaProducer = producer._producer.producer
    return client


async def _whole_batch(records: Records | ConsumerRecord[bytes, bytes]) -> KafkaMessage:
    # FastStream's own parser decodes every header as UTF-8 and loses the batch where one is not.
    return KafkaMessage(body=b"", raw_message=records, headers={}, consumer=FAKE_CONSUMER)


async def _untouched(message: KafkaMessage) -> Any:
    return message.raw_message


@asynccontextmanager
async def connected(
    broker: KafkaBroker, runtime: Runtime, bootstrap_servers: str, topics: Iterable[Topic]
) -> AsyncIterator[None]:
    """Have the broker's producer connected for as long as the block lasts; its early death ends the process.

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
    """Which part of the producer has died for good: it does not come back, and FastStream's ping stays true."""
    if isinstance(broker, SegueBroker) and broker.lost is not None:
        return f"the producer, for good: {broker.lost!r}"
    # Private, for want of anything public: aiokafka tells nobody that its sender has died.
    sender = client_of(broker)._sender.sender_task if broker.config.broker_config.producer else None
    return "the producer's sender task" if sender is not None and sender.done() else None


async def require_known(broker: KafkaBroker, topic: str) -> None:
    """Raises UnknownTopicOrPartitionError at once if the cluster has no such topic; asks it once a second.

    The producer itself would wait for the topic for as long as its request may take, record by record, while records
    of other topics wait behind it.
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
    """Topics that the cluster did not have when it was last asked, within so many seconds."""
    since = time.monotonic() - within_s
    return [topic for topic, at in broker.missed.items() if at > since] if isinstance(broker, SegueBroker) else []


async def publish(broker: KafkaBroker, record: Record, timestamp_ms: int | None = None) -> asyncio.Future[Any]:
    """Hand a record to the producer; the future is done when all in-sync replicas have it.

    `timestamp_ms` is its time, as Unix time, where the topic's brokers do not stamp it; None: this machine's. Raises
    KafkaError if the producer does not take it, UnknownTopicOrPartitionError where there is no such topic.
    """
    await require_known(broker, record.topic)
    future: asyncio.Future[Any] = await broker.publish(
        record.value,
        topic=record.topic,
        key=record.key,
        headers={name: value.decode() for name, value in record.headers},
        timestamp_ms=timestamp_ms,
        no_confirm=True,
    )
    future.add_done_callback(lambda done: _notice_loss(broker, done))
    return future


def _notice_loss(broker: KafkaBroker, done: asyncio.Future[Any]) -> None:
    if isinstance(broker, SegueBroker) and not done.cancelled() and isinstance(done.exception(), PRODUCER_LOST):
        broker.lost = done.exception()


async def publish_batch(broker: KafkaBroker, records: Sequence[Record], place: TopicPartition) -> asyncio.Future[Any]:
    """Hand records to the producer as one batch, whatever their keys; the future is done once Kafka has them."""
    producer = client_of(broker)
    batch = producer.create_batch()
    for record in records:
        batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
    batch.close()
    sent: asyncio.Future[Any] = await producer.send_batch(batch, place.topic, partition=place.partition)

    def noticed(done: asyncio.Future[Any]) -> None:
        _notice_loss(broker, done)
        if not done.cancelled() and isinstance(done.exception(), TOO_LARGE):
            # Private, for want of anything public: aiokafka counts on, and Kafka would refuse all that follows.
            numbers: Any = producer._txn_manager
            numbers.increment_sequence_number(place, -len(records))

    sent.add_done_callback(noticed)
    return sent
