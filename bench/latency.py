"""Latency: the time from a request to the provider's POST, and from a refusal to the next provider's POST."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from bench.ground import Ground, ground, options, percentiles, table

from contracts.topics import DEAD_LETTERS

WARM_UP = 5
PATIENCE_S = 30.0


async def one_job(at: Ground, prompt: str) -> tuple[float, float]:
    """Seconds from a request to fal's POST, which is refused, and from the refusal to Replicate's POST."""
    began = time.time()
    await at.submit(prompt)
    deadline = time.monotonic() + PATIENCE_S
    while len(posts := await at.posts(prompt)) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{prompt} did not reach both providers")
        await asyncio.sleep(0.05)
    first, second = posts
    return first["at"] - began, second["at"] - first["at"]


async def round_trips(at: Ground, count: int) -> list[float]:
    """Seconds for a record to a topic and back, without Segue."""
    place = TopicPartition(DEAD_LETTERS.name, 0)
    async with (
        AIOKafkaProducer(bootstrap_servers=at.kafka, acks="all", enable_idempotence=True) as producer,
        AIOKafkaConsumer(bootstrap_servers=at.kafka, fetch_max_wait_ms=20) as consumer,
    ):
        consumer.assign([place])
        await consumer.seek_to_end(place)

        async def once(_: int) -> None:
            await producer.send_and_wait(place.topic, b"x" * 300, partition=place.partition)
            await asyncio.wait_for(consumer.getone(place), PATIENCE_S)

        return await timed(once, count)


async def timed(work: Callable[[int], Awaitable[None]], count: int) -> list[float]:
    """The duration of each of `count` sequential calls, in seconds, after a few that are not counted."""
    took = []
    for n in range(-WARM_UP, count):
        began = time.perf_counter()
        await work(n)
        if n >= 0:
            took.append(time.perf_counter() - began)
    return took


async def measure(cluster: str, jobs: int) -> list[list[str]]:
    """The table rows of one cluster."""
    async with ground(cluster) as at:
        refuse = [{"provider": "fal", "action": {"refuse": "balance"}}]
        (await at.sandbox.put("/faults", json=refuse)).raise_for_status()
        pairs = [await one_job(at, f"job {n}") for n in range(WARM_UP + jobs)][WARM_UP:]
        hop = percentiles(await round_trips(at, jobs))

        async def bare(n: int) -> None:
            await at.post_bare(f"bare {n}")

        post = percentiles(await timed(bare, jobs))
    to_provider, to_next = (percentiles(column) for column in zip(*pairs, strict=True))
    what = {
        "POST -> the provider's POST": to_provider,
        "refusal -> the next provider's POST": to_next,
        "reference: one record to Kafka and back": hop,
        "reference: one POST to a provider": post,
    }
    floor = hop[0] + post[0]
    return [
        [cluster, name, f"{p50 * 1000:.1f}", f"{p95 * 1000:.1f}", f"{p50 / floor:.1f}"]
        for name, (p50, p95) in what.items()
    ]


async def main() -> None:
    """Measure and print."""
    given = options(__doc__, jobs=40)
    rows = [row for cluster in given.kafka for row in await measure(cluster, given.jobs)]
    print(table(["cluster", "what", "p50 ms", "p95 ms", "times (record + POST)"], rows))


if __name__ == "__main__":
    asyncio.run(main())
