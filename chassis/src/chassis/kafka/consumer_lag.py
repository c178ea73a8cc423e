"""The progress of a consumer group, as the cluster reports it: whether it has consumed up to a given moment.

A missing event proves nothing while records are still unread. Code that draws a conclusion from it first checks that
the consuming group is up to date.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.partitioner import DefaultPartitioner

from chassis.kafka.metadata import never_create_topics
from chassis.observability.log_events import KafkaEvent
from chassis.observability.logs import get_logger
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import Topic

ANSWER_LIMIT_S: Final = 5.0
CATCH_UP_S: Final = 2.0
"""Seconds to wait for commits: a group that keeps up commits once a second, and records come in between."""
_LOOK_AGAIN_S: Final = 0.2
_CLOSE_LIMIT_S: Final = 2.0
"""Without it the client would wait for as long as Kafka is unavailable."""
UNUSED_S: Final = 60.0
_PARTITION_OF: Final = DefaultPartitioner()
"""The producers' default, Java's murmur2: https://kafka.apache.org/documentation/#producerconfigs_partitioner.class"""


class GroupProgress:
    """Reports whether a consumer group has consumed a topic up to now. It reads no records and joins no group."""

    def __init__(self, cluster: KafkaCluster, topic: Topic, service: str) -> None:
        self._cluster = cluster
        self._topic = cluster.names.of(topic)
        self._group = cluster.names.group(service)
        self._client: AIOKafkaConsumer | None = None
        self._asking = asyncio.Lock()
        self._goals: dict[TopicPartition, tuple[int, float]] = {}
        """An end of each partition that was not reached yet, and when it was read."""
        self._close_unused: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._log = get_logger("chassis.kafka.consumer_lag").bind(topic=self._topic, group=self._group)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Allow queries for as long as the block lasts. The first one connects, within its limit of 5 s."""
        try:
            yield
        finally:
            await self._close()

    async def heard_until(self, keys: Sequence[str]) -> Mapping[str, float | None]:
        """For each key (a job id), a time up to which the group has committed every record with that key.

        The time is read just before the end of the key's partition, from `time.monotonic`, in seconds. It is None if
        the committed offset is before that end 2 s later, and for all keys if the cluster does not answer within 7 s.
        If that offset has reached the end that an earlier query found, it is the time of that query. Raises nothing.
        """
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S + CATCH_UP_S), self._asking:
                try:
                    return await self._ask(keys)
                finally:  # Also when the caller is cancelled.
                    self._close_unused = asyncio.get_running_loop().call_later(UNUSED_S, self._on_unused)
        except Exception as error:  # noqa: BLE001 - Kafka's errors have many classes, and each means: not known
            self._log.warning(KafkaEvent.GROUP_OFFSETS_UNKNOWN, error=repr(error))
            await self._close()
            return dict.fromkeys(keys)

    async def _ask(self, keys: Sequence[str]) -> Mapping[str, float | None]:
        client = await self._connected()
        numbers = client.partitions_for_topic(self._topic)
        if not numbers:
            raise UnknownTopicOrPartitionError(self._topic)
        ordered = sorted(numbers)
        places = {key: TopicPartition(self._topic, _PARTITION_OF(key.encode(), ordered, ordered)) for key in keys}
        wanted = list(set(places.values()))
        read_at = time.monotonic()
        # The ends come first: an offset committed later covers all records that existed at `read_at`.
        ends = await client.end_offsets(wanted)
        committed = await self._committed(client, ends, until=read_at + CATCH_UP_S)
        # An offset beyond the end belongs to a topic that was deleted and created again, and does not count.
        later = await client.end_offsets(wanted)
        times = {
            place: self._reached(place, committed[place], ends[place], read_at)
            for place in wanted
            if committed[place] <= later[place]
        }
        return {key: times.get(place) for key, place in places.items()}

    async def _committed(
        self, client: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], *, until: float
    ) -> Mapping[TopicPartition, int]:
        """The committed offsets, as soon as they have reached `ends`, and at the time `until` in any case."""
        while True:
            found = await asyncio.gather(*map(client.committed, ends))
            committed = {place: offset or 0 for place, offset in zip(ends, found, strict=True)}
            if time.monotonic() >= until or all(committed[place] >= end for place, end in ends.items()):
                return committed
            await asyncio.sleep(_LOOK_AGAIN_S)  # A commit of another process cannot be waited for.

    def _reached(self, place: TopicPartition, committed: int, end: int, read_at: float) -> float | None:
        if committed >= end:
            self._goals.pop(place, None)
            return read_at
        # A group that is far behind does not catch up meanwhile: then the end of an earlier query counts.
        goal_end, goal_at = self._goals.setdefault(place, (end, read_at))
        if committed < goal_end:
            return None
        self._goals[place] = end, read_at
        return goal_at

    async def _connected(self) -> AIOKafkaConsumer:
        if self._close_unused is not None:
            self._close_unused.cancel()
        if self._client is None:
            never_create_topics()
            self._client = AIOKafkaConsumer(
                client_id=f"segue-{self._group}-progress",
                group_id=self._group,
                enable_auto_commit=False,
                request_timeout_ms=int(ANSWER_LIMIT_S * 1000),
                **self._cluster.client_options(),
            )
            await self._client.start()
        # Private API, as there is no public one. Asked each time: an added partition changes the partition of a key.
        client = self._client._client
        client.set_topics([self._topic])
        await client.force_metadata_update()
        return self._client

    def _on_unused(self) -> None:
        self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        if self._close_unused is not None:
            self._close_unused.cancel()
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_LIMIT_S):
                await client.stop()
        except Exception as error:  # noqa: BLE001 - nothing of it is needed any more
            self._log.debug(KafkaEvent.CONNECTION_CLOSE_FAILED, error=repr(error))
