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
from functools import lru_cache
from math import inf
from typing import Any, Final

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnknownProducerId,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import murmur2
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.message import FAKE_CONSUMER
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from chassis.kafka.access import denial, may
from chassis.kafka.metadata import describe_topics, never_create_topics
from chassis.kafka.producer.sequence import leave_no_gaps
from chassis.kafka.records import Records, read_past_unreadable
from chassis.kafka.topics import require_topics
from chassis.observability.log_events import KafkaEvent
from chassis.observability.logs import get_logger
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Record
from contracts.topics import MAX_MESSAGE_BYTES, Topic

ASK_AGAIN_S = 1.0
CHECK_DENIED_S = 5.0
FLUSH_LIMIT_S = 2.0
"""How long a stop waits for Kafka to confirm what is under way, in seconds."""
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

_SASL: Final = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
_hash: Final = lru_cache(10_000)(murmur2)  # In Python; a service publishes several records of each job.


class SegueBroker(KafkaBroker):
    """A broker that stores its producer's fatal error, and the topics that were missing or denied.

    Topics have their names in the map here; they get those on the cluster when a record is handed to the producer.
    """

    lost: BaseException | None = None

    def __init__(self, cluster: KafkaCluster, **options: Any) -> None:
        super().__init__(cluster.addresses, security=_security(cluster), **options)
        self.cluster = cluster
        self.missed: dict[str, float] = {}
        """Topics that the cluster did not have, and when it was last asked (monotonic seconds)."""
        self.denied: set[str] = set()
        """Topics of which the cluster denied the last record."""

    def problem(self) -> str | None:
        """Which topics may not be written, as text; None if there is none."""
        names = ", ".join(self.cluster.names.of(topic) for topic in sorted(self.denied))
        return denial(self.cluster, "Write", f"topic {names}") if names else None


def _security(cluster: KafkaCluster) -> BaseSecurity | None:
    context = None if cluster.tls is None else cluster.tls.context()
    if (login := cluster.login) is not None:
        return _SASL[login.mechanism](login.username, login.password, context, use_ssl=context is not None)
    return None if context is None else BaseSecurity(context, use_ssl=True)


def make_broker(
    cluster: KafkaCluster, service: str, *, idempotent: bool = True, request_timeout_s: float = 10
) -> SegueBroker:
    """A broker that acknowledges nothing by itself and publishes to all in-sync replicas.

    An idempotent producer retries through an outage. The other kind raises after `request_timeout_s`; the record may
    still be stored later.
    """
    never_create_topics()
    read_past_unreadable()
    leave_no_gaps()
    return SegueBroker(
        cluster,
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
    broker: SegueBroker, runtime: Runtime, *, reads: Iterable[Topic] = (), writes: Iterable[Topic] = ()
) -> AsyncIterator[None]:
    """Keep the broker's producer connected for as long as the block lasts; if it fails before, the process exits.

    The process is not ready while the cluster denies a topic that is published to. Raises CannotStart if no broker
    answers, or if a topic that the service reads or writes is missing or denied.
    """
    await require_topics(broker.cluster, reads=reads, writes=writes)
    try:
        await broker.connect()
        runtime.must_live(lambda: _dead_producer(broker))
        runtime.must_be_ready(broker.problem)
        async with background(runtime, "the check of what may be published", _check_denied(broker, runtime)):
            yield
    finally:
        await _stop(broker)


async def _stop(broker: SegueBroker) -> None:
    """Stop the broker. What Kafka has not confirmed after `FLUSH_LIMIT_S` is in an outbox, or its sender was told."""
    stopping = asyncio.create_task(broker.stop())
    await asyncio.wait([stopping], timeout=FLUSH_LIMIT_S)
    if not stopping.done() and broker.config.broker_config.producer:
        # aiokafka flushes for as long as Kafka is away, and stops once its sender ends.
        sender: Any = client_of(broker)._sender
        sender.sender_task.cancel()
    await stopping


async def _check_denied(broker: SegueBroker, runtime: Runtime) -> None:
    """Forget denied topics once they may be written: a process that is not ready may have nothing to publish."""
    while await runtime.pause(CHECK_DENIED_S):
        if not (asked := {topic: broker.cluster.names.of(topic) for topic in broker.denied}):
            continue
        try:
            there = await describe_topics(client_of(broker).client, list(asked.values()))
        except (KafkaError, OSError, TimeoutError):
            continue
        broker.denied -= {topic for topic, name in asked.items() if may("Write", there.get(name))}


def _dead_producer(broker: SegueBroker) -> str | None:
    """The part of the producer that has failed for good, which FastStream's ping does not detect; None if it works."""
    if broker.lost is not None:
        return f"the producer, for good: {broker.lost!r}"
    if not broker.config.broker_config.producer:
        return None
    # Private API, as there is no public one: aiokafka does not report that one of these has failed.
    producer: Any = client_of(broker)
    tasks = {"sender": producer._sender.sender_task, "metadata": producer.client._sync_task}
    ended = [name for name, task in tasks.items() if task is not None and task.done()]
    return f"the producer's {ended[0]} task" if ended else None


async def require_known(broker: SegueBroker, topic: str) -> None:
    """Raises UnknownTopicOrPartitionError at once if the topic is missing; the cluster is asked once a second at most.

    The producer itself would wait for the topic up to its request timeout, for each record, while records of other
    topics wait behind it. Raises TopicAuthorizationFailedError if the cluster does not let this client see the topic.
    """
    client, name = client_of(broker).client, broker.cluster.names.of(topic)
    known = client.cluster.partitions_for_topic(name)
    if not known and time.monotonic() - broker.missed.get(topic, -inf) > ASK_AGAIN_S:
        await client.add_topic(name)
        await client.force_metadata_update()
        broker.missed[topic] = time.monotonic()
        known = client.cluster.partitions_for_topic(name)
    if name in client.cluster.unauthorized_topics:
        _note_denied(broker, topic)
        raise TopicAuthorizationFailedError(name)
    if not known:
        raise UnknownTopicOrPartitionError(name)
    broker.missed.pop(topic, None)


def missed_topics(broker: SegueBroker, within_s: float) -> list[str]:
    """Topics that were missing when the cluster was last asked, if that was in the last `within_s` seconds."""
    since = time.monotonic() - within_s
    return [topic for topic, at in broker.missed.items() if at > since]


def partition_of(broker: SegueBroker, record: Record) -> int | None:
    """The partition that Kafka's clients choose by the record's key; None if the producer does not know the topic."""
    known = client_of(broker).client.cluster.partitions_for_topic(broker.cluster.names.of(record.topic))
    return sorted(known)[(_hash(record.key) & 0x7FFFFFFF) % len(known)] if known else None


async def publish(broker: SegueBroker, record: Record, timestamp_ms: int | None = None) -> asyncio.Future[Any]:
    """Hand a record to the producer; the future is done when all in-sync replicas have it.

    `timestamp_ms` is the record's time, as Unix time in milliseconds, unless the brokers set it; None means this
    machine's time. Raises KafkaError if the producer does not take it, UnknownTopicOrPartitionError if the topic is
    missing.
    """
    await require_known(broker, record.topic)
    # FastStream would decode and encode the headers, and add a correlation_id that nobody reads.
    future: asyncio.Future[Any] = await client_of(broker).send(
        broker.cluster.names.of(record.topic),
        record.value,
        key=record.key,
        partition=partition_of(broker, record),
        timestamp_ms=timestamp_ms,
        headers=list(record.headers),
    )
    future.add_done_callback(lambda done: _notice(broker, record.topic, done))
    return future


def _notice(broker: SegueBroker, topic: str, done: asyncio.Future[Any]) -> None:
    if done.cancelled():
        return
    error = done.exception()
    if error is None:
        broker.denied.discard(topic)
    elif isinstance(error, TopicAuthorizationFailedError):
        _note_denied(broker, topic)
    elif isinstance(error, PRODUCER_LOST):
        broker.lost = error


def _note_denied(broker: SegueBroker, topic: str) -> None:
    if topic not in broker.denied:
        broker.denied.add(topic)
        get_logger("chassis.kafka.broker").error(KafkaEvent.PUBLISHING_DENIED, reason=broker.problem())


async def publish_batch(
    broker: SegueBroker, records: Sequence[Record], topic: str, partition: int
) -> asyncio.Future[Any]:
    """Hand records to the producer as one batch, whatever their keys; the future is done once Kafka has stored them."""
    producer, place = client_of(broker), TopicPartition(broker.cluster.names.of(topic), partition)
    batch = producer.create_batch()
    for record in records:
        batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
    batch.close()
    sent: asyncio.Future[Any] = await producer.send_batch(batch, place.topic, partition=place.partition)

    def noticed(done: asyncio.Future[Any]) -> None:
        _notice(broker, topic, done)
        if not done.cancelled() and isinstance(done.exception(), TOO_LARGE):
            # Private API, as there is no public one: aiokafka has advanced its sequence number, and Kafka would refuse
            # all later batches.
            numbers: Any = producer._txn_manager
            numbers.increment_sequence_number(place, -len(records))

    sent.add_done_callback(noticed)
    return sent
