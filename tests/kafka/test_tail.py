"""The gateway's tail on a real Apache Kafka: its topics are deleted, created again, and given more partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

import pytest
from aiokafka.admin import NewPartitions
from tests.chassis.toy import job, request, runtime_for, send, started, until
from tests.kafka.test_topics import WITHIN_S, create, delete

from chassis.delivery.tail import Tail
from chassis.kafka.topics import admin
from chassis.runtime.runtime import Runtime
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Envelope, encode
from contracts.topics import JOBS, PARTITIONS, REQUESTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

Counts = Counter[tuple[str, str]]


@asynccontextmanager
async def tail(servers: str) -> AsyncIterator[tuple[Runtime, Counts]]:
    """A tail of two topics, and the number of its messages by type and job."""
    runtime, counts = runtime_for("tailing"), Counts()

    def take(envelope: Envelope, arrived_at: datetime | None) -> None:
        counts[envelope.message.TYPE.split(".")[2], envelope.message.job_id] += 1

    runtime.started = True
    async with Tail(KafkaCluster(servers), (REQUESTS, JOBS), take, runtime).running():
        yield runtime, counts


async def received(counts: Counts, kind: str, numbers: Iterable[int]) -> bool:
    return all(counts[kind, job(n)] for n in numbers)


async def unready(runtime: Runtime, why: str) -> bool:
    return why in str(runtime.unready())


async def ready(runtime: Runtime) -> bool:
    return runtime.unready() is None


async def test_a_missing_topic_is_reported_and_read_from_its_start_once_it_is_created_again(servers: str) -> None:
    jobs = [encode(started(job(n)), source="test", traceparent=None) for n in range(300)]
    async with tail(servers) as (runtime, counts):
        await send(servers, [request(n) for n in range(50)], partition=None)
        await send(servers, jobs[:20], partition=0)
        await until(lambda: received(counts, "started", range(20)))
        await delete(servers, JOBS)
        await until(partial(unready, runtime, f"{JOBS.name} is missing"), within_s=WITHIN_S)
        assert runtime.unhealthy() is None
        await send(servers, [request(n) for n in range(50, 60)], partition=None)
        await until(lambda: received(counts, "cancel_requested", range(60)), within_s=WITHIN_S)
        await create(servers, JOBS)
        await send(servers, jobs[100:], partition=0)
        await until(lambda: received(counts, "started", range(100, 300)), within_s=WITHIN_S)
        await until(partial(ready, runtime), within_s=WITHIN_S)
        assert runtime.unhealthy() is None
    assert {n for (kind, _), n in counts.items() if kind == "cancel_requested"} == {1}, (
        "the other topic is not read again"
    )


async def test_a_topic_that_is_created_again_at_once_is_read_from_its_start(servers: str) -> None:
    jobs = [encode(started(job(n)), source="test", traceparent=None) for n in range(300)]
    async with tail(servers) as (runtime, counts):
        await send(servers, jobs[:20], partition=0)
        await until(lambda: received(counts, "started", range(20)))
        await delete(servers, JOBS)
        await create(servers, JOBS)
        await send(servers, jobs[100:], partition=0)
        await until(lambda: received(counts, "started", range(100, 300)), within_s=WITHIN_S)
        await until(partial(ready, runtime), within_s=WITHIN_S)


async def test_added_partitions_are_read_and_the_others_not_again(servers: str) -> None:
    async with tail(servers) as (runtime, counts):
        await send(servers, [request(n) for n in range(50)], partition=None)
        await until(lambda: received(counts, "cancel_requested", range(50)))
        async with admin(KafkaCluster(servers)) as client:
            await client.create_partitions({REQUESTS.name: NewPartitions(PARTITIONS + 2)})
        await send(servers, [request(n) for n in range(50, 60)], partition=PARTITIONS + 1)
        await until(lambda: received(counts, "cancel_requested", range(60)), within_s=WITHIN_S)
        assert runtime.unready() is None
    assert set(counts.values()) == {1}
