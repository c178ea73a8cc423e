"""How many events per second one log sink stores, alone on the machine, and the CPU time of each."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, cycle
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from bench.accounts import cpu_of
from bench.measures import throughput
from bench.system import System, end

from contracts.ids import JobId, job_id_for, track_id_for
from contracts.topics import PARTITIONS, SERVICES, TOPICS
from segue_cli.local.ports import free_port
from segue_cli.local.process import child
from segue_cli.stack.environment import without_settings

SINK: Final = "log-sink"
RECORDED_JOBS: Final = 40
STORED_WITHIN_S: Final = 300.0
LOOK_EVERY_S: Final = 0.1
_PLACES: Final = [TopicPartition(topic.name, n) for topic in TOPICS if SINK in topic.groups for n in range(PARTITIONS)]

Record = ConsumerRecord[bytes, bytes]
Job = Sequence[Record]


@dataclass(frozen=True, slots=True)
class SinkRate:
    """What one log sink stored that had only to catch up."""

    events: int
    per_s: float
    cpu_us: dict[str, float]
    """CPU time in microseconds per event, by process."""


async def sink_alone(system: System, events: int) -> SinkRate:
    """Record the events of failover jobs, end all services, repeat them with other ids, and have a sink store them.

    The services of `system` are not started again. Raises TimeoutError as `catching_up` does.
    """
    await throughput(system, RECORDED_JOBS, 20)
    for service in SERVICES:
        await end(system.parts[service])
    return await catching_up(system, await _recorded(system), events)


async def catching_up(system: System, jobs: Sequence[Job], events: int) -> SinkRate:
    """Repeat recorded jobs with other ids, then have a new log sink store them. Raises TimeoutError after 5 minutes."""
    await _produce(system, jobs, events)
    async with _Offsets(system) as offsets, _sink(system) as pid, asyncio.timeout(STORED_WITHIN_S):
        ends, first = await offsets.ends(), await offsets.committed()
        while (begin := await offsets.committed()) == first:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(LOOK_EVERY_S)
        began = time.perf_counter()
        parts = {SINK: pid} | {part: system.parts[part] for part in system.parts.keys() - set(SERVICES)}
        with cpu_of(parts) as used:
            while (stored := await offsets.committed()) < ends:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_EVERY_S)
        took_s, stored = time.perf_counter() - began, stored - begin
    return SinkRate(stored, stored / took_s, {part: 1e6 * s / stored for part, s in sorted(used.by_part.items())})


async def _recorded(system: System) -> list[Job]:
    """The records of each job that the log sink reads, in the order of their times."""
    jobs: dict[bytes, list[Record]] = {}
    async with AIOKafkaConsumer(bootstrap_servers=system.kafka, enable_auto_commit=False) as consumer:
        consumer.assign(_PLACES)
        await consumer.seek_to_beginning()
        left = sum((await consumer.end_offsets(_PLACES)).values())
        while left > 0:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                left -= len(records)
                for record in records:
                    jobs.setdefault(record.key or b"", []).append(record)
    return [sorted(records, key=lambda record: record.timestamp) for records in jobs.values()]


async def _produce(system: System, jobs: Sequence[Job], events: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=system.kafka, acks="all", linger_ms=20) as producer:
        sent = 0
        for run, job in zip(count(), cycle(jobs)):
            if sent >= events:
                break
            for topic, partition, key, value, headers in _repeated(job, f"{uuid.uuid4()} {run}"):
                await producer.send(topic, value, key, partition, headers=headers)
                sent += 1
        await producer.flush()


Repeat = tuple[str, int, bytes, bytes, list[tuple[str, bytes]]]


def _repeated(job: Job, name: str) -> Iterator[Repeat]:
    """The records of a job as those of another one: topic, partition, key, value and headers."""
    old = JobId((job[0].key or b"").decode())
    new = job_id_for("default", name)
    ids = {old.encode(): new.encode(), track_id_for(old).encode(): track_id_for(new).encode()}

    def changed(text: bytes) -> bytes:
        for before, after in ids.items():
            text = text.replace(before, after)
        return text

    for record in job:
        headers = [(key, str(uuid.uuid4()).encode() if key == "ce_id" else changed(raw)) for key, raw in record.headers]
        yield record.topic, record.partition, new.encode(), changed(record.value or b""), headers


@asynccontextmanager
async def _sink(system: System) -> AsyncIterator[int]:
    """A log sink of its own; yields its process id."""
    env = {**without_settings(os.environ), **system.env, "SEGUE_PORT": str(free_port())}
    async with child([sys.executable, "-m", "log_sink"], name=SINK, env=env) as running:
        yield running.pid


class _Offsets:
    """Sums of the offsets of the log sink's partitions."""

    def __init__(self, system: System) -> None:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=system.kafka)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=system.kafka)

    async def __aenter__(self) -> _Offsets:
        await self._admin.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def ends(self) -> int:
        return _sum(await self._consumer.end_offsets(_PLACES))

    async def committed(self) -> int:
        found = await self._admin.list_consumer_group_offsets(SINK, partitions=_PLACES)
        return _sum({place: max(0, offset.offset) for place, offset in found.items()})


def _sum(offsets: Mapping[TopicPartition, int]) -> int:
    return sum(offsets.values())
