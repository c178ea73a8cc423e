"""A tail: every replica reads a few topics completely, without a group, to answer requests about recent events.

It commits nothing and publishes no dead letters; the groups that consume these topics do that.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from chassis.delivery.handling import arrived_at
from chassis.delivery.polling import PollPause, poll, positions
from chassis.kafka.broker import METADATA_AGE_MS
from chassis.kafka.metadata import TopicState, describe_topics, never_create_topics
from chassis.kafka.records import Records, in_turns, read_past_unreadable
from chassis.kafka.subscriber import stopped
from chassis.kafka.topic_watch import TopicWatch
from chassis.observability.log_events import DeliveryEvent
from chassis.observability.logs import get_logger
from chassis.observability.metrics import TAIL_LAG, TAIL_READ, TAIL_UNREADABLE
from chassis.runtime.background import background
from chassis.runtime.dependencies import failed_with
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Envelope, Skipped, Undecodable, decode
from contracts.topics import Topic

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from chassis.runtime.runtime import Runtime

WINDOW_S: Final = 15 * 60
LAST_RECORDS: Final = 2_000
"""Read from the end of each partition if the cluster cannot look up offsets by time, or has no record that recent."""
_BATCH: Final = 1_000
_RETRY_S: Final = 1.0
STOP_LIMIT_S: Final = 5.0

OnMessage = Callable[[Envelope, datetime | None], None]
"""Called with a message and its record's time; the time is None if the record has no valid one."""


class TailBroken(Exception):
    """The consumer failed and does not recover by itself."""


class TopicsChanged(Exception):
    """The topics or their partitions differ from those that the consumer was assigned."""


class Tail:
    """Reads topics from `window_s` seconds ago, and then continuously. It reconnects after every outage."""

    def __init__(
        self,
        cluster: KafkaCluster,
        topics: Sequence[Topic],
        on_message: OnMessage,
        runtime: Runtime,
        *,
        has_taken: Callable[[ConsumerRecord[bytes, bytes]], bool] = lambda _: False,
        window_s: float = WINDOW_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`now_s` returns the current time of the clock that stamps the records, as Unix time.

        A record that `has_taken` says is known already, as the process has published it, is not decoded.
        """
        self._cluster = cluster
        self._topics = topics
        self._on_message = on_message
        self._runtime = runtime
        self._has_taken = has_taken
        self._window_s = window_s
        self._now_s = now_s
        self._positions: dict[TopicPartition, int] = {}
        self._behind: Mapping[TopicPartition, int] = {}
        self._ids: dict[str, str] = {}
        self._names = [cluster.names.of(topic) for topic in topics]
        self._watch = TopicWatch(cluster, topics, group=None)
        self._consumer: AIOKafkaConsumer | None = None
        """The one that reads; None while the tail is not connected."""
        self._progress = asyncio.Event()
        """Set, and replaced by another, after each poll."""
        self.caught_up = asyncio.Event()
        """Set once every record that existed at the start has been read."""
        self._log = get_logger("chassis.delivery.tail").bind(topics=self._names)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tail for as long as the block lasts; the process is not ready until the tail has caught up once."""
        self._runtime.must_be_ready(lambda: None if self.caught_up.is_set() else "the tail is catching up", part="tail")
        self._runtime.must_be_ready(self._watch.problem, part="tail")
        self._runtime.depends_on("kafka", self._watch.kafka)
        async with background(self._runtime, "the tail", self._live()):
            yield

    async def catch_up(self) -> None:
        """Wait until everything that the topics have at the time of the call has been read; no limit of its own.

        Raises KafkaError if the brokers do not tell how far their topics go.
        """
        while (consumer := self._consumer) is None:
            await self._progress.wait()
        ends = await consumer.end_offsets(consumer.assignment())
        while any(self._positions[partition] < end for partition, end in ends.items()):
            await self._progress.wait()

    async def _live(self) -> None:
        while True:
            try:
                await self._follow()
            except TopicsChanged:
                continue
            except (KafkaError, OSError, TimeoutError, TailBroken) as error:
                self._watch.kafka.fails(failed_with(error))
                self._log.warning(DeliveryEvent.TAIL_DISCONNECTED, error=repr(error))
                await self._watch.diagnose()
            await asyncio.sleep(_RETRY_S)  # Cancelled when the block that runs the tail is left.

    async def _follow(self) -> None:
        never_create_topics()
        read_past_unreadable()
        consumer = AIOKafkaConsumer(
            client_id=f"segue-{self._runtime.service}-tail",
            group_id=None,
            enable_auto_commit=False,
            # Used when the log no longer has the position: a topic that was created again starts at 0.
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            request_timeout_ms=10_000,
            metadata_max_age_ms=METADATA_AGE_MS,
            **self._cluster.client_options(),
        )
        try:
            await consumer.start()
            there = await describe_topics(consumer._client, self._names)
            self._forget_earlier_topics(there)
            # Assigned, not subscribed: a subscription reads topics from the start when they change.
            consumer.assign([TopicPartition(name, n) for name, state in there.items() for n in state.partitions])
            await self._watch.look(consumer, at_once=True)
            await self._seek(consumer)
            pause = PollPause()
            while True:
                if await self._watch.look(consumer) not in (None, there):
                    raise TopicsChanged
                await pause.wait()
                records = await poll(consumer, timeout_ms=500, max_records=_BATCH)
                pause.note(len(records), _BATCH)
                await self._take(records, positions(consumer))
                self._show_lag(consumer)
                if not records:
                    _require_alive(consumer)
        finally:
            self._consumer = None
            await stopped(consumer.stop(), within_s=STOP_LIMIT_S)

    def _forget_earlier_topics(self, there: Mapping[str, TopicState]) -> None:
        """Reset the positions in a topic that was deleted and created again: it is read from the start."""
        anew = {name for name, state in there.items() if self._ids.get(name, state.id) != state.id}
        for partition in self._positions:
            if partition.topic in anew:
                self._positions[partition] = 0
        self._ids |= {name: state.id for name, state in there.items()}

    async def _seek(self, consumer: AIOKafkaConsumer) -> None:
        partitions = consumer.assignment()
        if not partitions:
            raise TailBroken("the topics have no partitions yet")
        since_ms = int((self._now_s() - self._window_s) * 1000)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
        first = await consumer.beginning_offsets(partitions)
        last = await consumer.end_offsets(partitions)
        self._behind = last
        for partition in partitions:
            at = found.get(partition)
            recent = at.offset if at is not None else max(first[partition], last[partition] - LAST_RECORDS)
            start = self._positions.get(partition, recent)
            # Beyond the end: the topic was created again, and is read from the start.
            start = start if first[partition] <= start <= last[partition] else first[partition]
            consumer.seek(partition, start)
            self._positions[partition] = start
        self._consumer = consumer
        self._note_progress()

    async def _take(self, records: Records, then: Mapping[TopicPartition, int]) -> None:
        """Read the polled records; `then` holds the next positions, which may be past transaction markers."""
        untaken: list[tuple[ConsumerRecord[bytes, bytes], Exception]] = []
        async for record in in_turns(records):
            if (error := self._read(record)) is not None:
                untaken.append((record, error))
            self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        self._positions |= then
        self._note_progress()
        if untaken:
            first, error = untaken[0]
            self._log.error(
                DeliveryEvent.TAIL_MESSAGES_FAILED,
                count=len(untaken),
                topic=first.topic,
                partition=first.partition,
                first_offset=first.offset,
                exc_info=error,
            )

    def _read(self, record: ConsumerRecord[bytes, bytes]) -> Exception | None:
        try:
            if not self._has_taken(record):
                envelope = decode(record.headers, record.value)
                if isinstance(envelope, Skipped):
                    return None
                self._on_message(envelope, arrived_at(record))
        except Undecodable:
            TAIL_UNREADABLE.labels(record.topic).inc()
            return None
        except Exception as error:  # noqa: BLE001 - one message that raises an error must not end the tail
            TAIL_UNREADABLE.labels(record.topic).inc()
            return error
        TAIL_READ.labels(record.topic).inc()
        return None

    def _show_lag(self, consumer: AIOKafkaConsumer) -> None:
        lag: Counter[str] = Counter(dict.fromkeys(self._names, 0))
        assigned = consumer.assignment()
        for partition, position in self._positions.items():
            # The position in a topic that was deleted is kept; the client knows no end of it.
            if partition not in assigned:
                continue
            # The brokers tell the end with each fetch; before the first one, that of the start counts.
            end = max(consumer.highwater(partition) or 0, self._behind.get(partition, 0))
            lag[partition.topic] += max(0, end - position)
        for topic, count in lag.items():
            TAIL_LAG.labels(topic).set(count)

    def _note_progress(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()
        if self.caught_up.is_set():
            return
        if all(self._positions[partition] >= end for partition, end in self._behind.items()):
            self.caught_up.set()
            self._log.info(DeliveryEvent.TAIL_CAUGHT_UP)


def _require_alive(consumer: AIOKafkaConsumer) -> None:
    # Private API, as there is no public one: aiokafka does not report that its fetcher has failed.
    fetcher = consumer._fetcher
    if fetcher is not None and fetcher._fetch_task.done():
        raise TailBroken("the fetch task has died")
