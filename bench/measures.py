"""What is measured of a running Segue: one job's latencies, throughput and cost of failover jobs, durable answers."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count

from aiokafka import AIOKafkaConsumer
from bench.accounts import Statements, cpu_of
from bench.system import System

from contracts.envelope import Envelope, decode
from contracts.messages.jobs import JobCancelled, JobFailed, JobSucceeded
from contracts.topics import JOBS

ALL_END_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Latencies:
    """One job at a time, on an idle system; milliseconds, p50 and p99."""

    to_provider: tuple[float, float]
    """From the client's POST until the first provider has the submit."""
    to_next: tuple[float, float]
    """From the first provider's refusal until the next one has the submit."""
    to_visible: tuple[float, float]
    """From the provider's webhook until a client that waits is told that the job succeeded."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Many failover jobs at a time: fal refuses each, Replicate makes it."""

    jobs: int
    succeeded: int
    jobs_per_s: float
    cpu_ms: dict[str, float]
    """CPU time in milliseconds per job, by process."""
    provider_requests: float
    """Requests to both providers per job."""
    provider_connections: float
    """New connections to both providers per job."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Statements and commits per failover job, by service."""

    jobs: int
    statements: dict[str, float]
    commits: dict[str, float]
    most_frequent: list[tuple[str, float]]
    """The statements that run most often, and how often per job."""


async def latencies(system: System, jobs: int, warm_up: int = 5) -> Latencies:
    """Run failover jobs one after the other."""
    run = uuid.uuid4().hex[:8]
    begun, told = {}, {}
    for n in range(-warm_up, jobs):
        prompt = f"refused {run} {n}"
        begun[prompt] = time.time()
        job_id = await system.submit(prompt)
        await ended(system, job_id)
        told[prompt] = time.time()
    posts: dict[str, dict[str, float]] = {}
    for post in (await system.posts())["posts"]:
        posts.setdefault(post["prompt"], {})[post["provider"]] = post["at"]
    measured = [f"refused {run} {n}" for n in range(jobs)]
    return Latencies(
        percentiles([posts[prompt]["fal"] - begun[prompt] for prompt in measured]),
        percentiles([posts[prompt]["replicate"] - posts[prompt]["fal"] for prompt in measured]),
        percentiles([told[prompt] - posts[prompt]["replicate"] for prompt in measured]),
    )


async def ended(system: System, job_id: str) -> None:
    """Wait until the job has ended, as a client does. Raises RuntimeError if it did not succeed."""
    while True:
        job = (await system.api.get(f"/api/jobs/{job_id}", headers={"Prefer": "wait=30"})).json()
        if job["status"] == "succeeded":
            return
        if job["status"] in ("failed", "cancelled"):
            raise RuntimeError(f"job {job_id} ended as {job['status']}: {job['error']}")


async def throughput(system: System, jobs: int, at_once: int) -> Throughput:
    """Submit failover jobs over `at_once` connections, and wait until all have ended."""
    run = uuid.uuid4().hex[:8]
    before = await system.posts()
    async with AIOKafkaConsumer(JOBS.name, bootstrap_servers=system.kafka, fetch_max_wait_ms=100) as consumer:
        await consumer.seek_to_end()
        with cpu_of(system.parts) as cpu:
            began = time.perf_counter()
            counting = asyncio.create_task(_ends(consumer, jobs))
            await each(lambda n: system.submit(f"refused {run} {n}"), jobs, at_once)
            succeeded = await counting
            took_s = time.perf_counter() - began
    after = await system.posts()
    return Throughput(
        jobs,
        succeeded,
        jobs / took_s,
        {part: 1000 * s / jobs for part, s in cpu.by_part.items()},
        (after["requests"] - before["requests"] - 1) / jobs,
        (after["connections"] - before["connections"]) / jobs,
    )


async def _ends(consumer: AIOKafkaConsumer, jobs: int) -> int:
    """Wait until that many jobs have ended; returns how many of them succeeded."""
    ends: dict[str, bool] = {}
    async with asyncio.timeout(ALL_END_WITHIN_S):
        while len(ends) < jobs:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    said = decode(record.headers, record.value)
                    if isinstance(said, Envelope) and isinstance(
                        said.message, JobSucceeded | JobFailed | JobCancelled
                    ):
                        ends[said.message.job_id] = isinstance(said.message, JobSucceeded)
    return sum(ends.values())


async def cost(system: System, jobs: int, at_once: int) -> Cost:
    """Count the statements of failover jobs, from PostgreSQL's log, without those of an idle system in the same time."""
    begin = await system.statements.start()
    began = time.perf_counter()
    run = uuid.uuid4().hex[:8]

    async def one(n: int) -> None:
        await ended(system, await system.submit(f"refused {run} {n}"))

    await each(one, jobs, at_once)
    await asyncio.sleep(1)  # What the log sink still writes.
    took_s = time.perf_counter() - began
    busy = await system.statements.stop(begin)
    begin = await system.statements.start()
    await asyncio.sleep(took_s)
    return _per_job(busy, await system.statements.stop(begin), jobs)


def _per_job(busy: Statements, idle: Statements, jobs: int) -> Cost:
    statements = busy.statements.copy()
    statements.subtract(idle.statements)
    commits = busy.commits.copy()
    commits.subtract(idle.commits)
    texts = busy.texts.copy()
    texts.subtract(idle.texts)
    return Cost(
        jobs,
        {service: n / jobs for service, n in sorted(statements.items())},
        {service: n / jobs for service, n in sorted(commits.items())},
        [(text, n / jobs) for text, n in texts.most_common(40)],
    )


async def durable_answers(system: System, seconds: float, at_once: int, *, keyed: bool) -> float:
    """Accepted requests a second, over `at_once` connections; each is confirmed by all in-sync replicas of Kafka."""
    until, accepted, numbers = time.perf_counter() + seconds, 0, count()
    run = uuid.uuid4().hex[:8]
    began = time.perf_counter()

    async def submit_on() -> None:
        nonlocal accepted
        while time.perf_counter() < until:
            n = next(numbers)
            await system.submit(f"answer {run} {n}", key=f"{run} {n}" if keyed else None)
            accepted += 1

    await asyncio.gather(*(submit_on() for _ in range(at_once)))
    return accepted / (time.perf_counter() - began)


async def each(work: Callable[[int], Awaitable[object]], times: int, at_once: int) -> None:
    """Call `work` with each number below `times`, `at_once` calls at a time."""
    numbers = iter(range(times))

    async def one_after_the_other() -> None:
        for n in numbers:
            await work(n)

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return round(1000 * cuts[49], 1), round(1000 * cuts[98], 1)
