"""Throughput: how many jobs per second run to their end when hundreds are submitted at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer
from bench.ground import Ground, ground, options, table

from contracts.envelope import Envelope, decode
from contracts.messages.jobs import JobCancelled, JobFailed, JobSucceeded
from contracts.topics import JOBS

PATIENCE_S = 300.0


async def ends(consumer: AIOKafkaConsumer, count: int) -> int:
    """Wait until `count` jobs have ended; returns how many of them succeeded."""
    ended: dict[str, bool] = {}
    async with asyncio.timeout(PATIENCE_S):
        while len(ended) < count:
            record = await consumer.getone()
            said = decode(record.headers, record.value)
            if isinstance(said, Envelope) and isinstance(said.message, JobSucceeded | JobFailed | JobCancelled):
                ended[said.message.job_id] = isinstance(said.message, JobSucceeded)
    return sum(ended.values())


async def at_once(work: Callable[[str], Awaitable[None]], name: str, count: int) -> float:
    """The duration of `count` concurrent calls, in seconds."""
    began = time.perf_counter()
    await asyncio.gather(*(work(f"{name} {n}") for n in range(count)))
    return time.perf_counter() - began


async def measure(cluster: str, jobs: int) -> list[list[str]]:
    """The table rows of one cluster."""
    async with ground(cluster) as at:
        await one_first(at)
        async with AIOKafkaConsumer(
            JOBS.name, bootstrap_servers=at.kafka, auto_offset_reset="latest", fetch_max_wait_ms=100
        ) as consumer:
            await consumer.seek_to_end()
            began = time.perf_counter()
            counting = asyncio.create_task(ends(consumer, jobs))
            accepted_s = await at_once(at.submit, "burst", jobs)
            succeeded = await counting
            ended_s = time.perf_counter() - began
        bare_s = await at_once(at.post_bare, "bare", jobs)
    what = {
        f"{jobs} jobs accepted": accepted_s,
        f"{succeeded} of {jobs} jobs made": ended_s,
        f"reference: {jobs} POSTs to a provider": bare_s,
    }
    return [[cluster, name, f"{s:.1f}", f"{jobs / s:.0f}", f"{s / bare_s:.1f}"] for name, s in what.items()]


async def one_first(at: Ground) -> None:
    """Run one job to its end, so that every connection is open."""
    async with AIOKafkaConsumer(JOBS.name, bootstrap_servers=at.kafka, auto_offset_reset="earliest") as consumer:
        await consumer.seek_to_beginning()
        await at.submit("the first")
        await ends(consumer, 1)


async def main() -> None:
    """Measure and print."""
    given = options(__doc__, jobs=500)
    rows = [row for cluster in given.kafka for row in await measure(cluster, given.jobs)]
    print(table(["cluster", "what", "s", "a second", "times the POSTs alone"], rows))


if __name__ == "__main__":
    asyncio.run(main())
