"""What is measured of a running Segue: one job's latencies, throughput and cost of failover jobs."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.accounts import cpu_of
from bench.ends import job_ends
from bench.system import System, music

WARM_UP: Final = 50
"""Jobs until a new system is as fast as one that runs: the JVM compiles, each connection prepares its statements."""
RUN_S: Final = 0.2
"""How long a run takes while latencies are measured: nothing of its submit goes on when its webhook is sent."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """One job at a time, on an idle system; milliseconds, p50 and p99."""

    to_provider: tuple[float, float]
    """From the client's POST until the first provider has the submit."""
    to_next: tuple[float, float]
    """From the first provider's refusal until the next one has the submit."""
    to_visible: tuple[float, float]
    """From the provider's webhook, sent when all else is quiet, until a client that waits is told of the success."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Many failover jobs at a time: the first provider refuses each, the next one makes it."""

    jobs: int
    jobs_per_s: float
    cpu_ms: dict[str, float]
    """CPU time in milliseconds per job, by process."""
    requests: float
    """Requests to both providers per job."""
    connections: float
    """New connections to both providers per job."""

    @property
    def cpu_ms_per_job(self) -> float:
        """CPU time in milliseconds per job, of all processes."""
        return sum(self.cpu_ms.values())


async def latencies(system: System, jobs: int, warm_up: int = WARM_UP) -> Latencies:
    """Run failover jobs one after the other, each by a request that waits for its end, after `warm_up` uncounted ones.

    Raises RuntimeError if a job does not succeed.
    """
    run = uuid.uuid4().hex[:8]
    begun, told = {}, {}
    async with system.runs_that_take(RUN_S):
        for n in range(-warm_up, jobs):
            prompt = f"refused {run} {n}"
            begun[prompt] = time.time()
            async with system.api.post("/api/tracks", json=music(prompt), headers={"Prefer": "wait=60"}) as answer:
                job = await answer.json()
            told[prompt] = time.time()
            if job.get("status") != "succeeded":
                raise RuntimeError(f"the request was answered with {answer.status}: {job}")
    posts = {(post["prompt"], post["provider"]): post for post in await system.posts()}
    measured = [f"refused {run} {n}" for n in range(jobs)]
    refused_at = {prompt: posts[prompt, "fal"]["at"] for prompt in measured}
    made = {prompt: posts[prompt, "replicate"] for prompt in measured}
    return Latencies(
        percentiles([refused_at[prompt] - begun[prompt] for prompt in measured]),
        percentiles([made[prompt]["at"] - refused_at[prompt] for prompt in measured]),
        percentiles([told[prompt] - made[prompt]["called_at"] for prompt in measured]),
    )


async def throughput(system: System, jobs: int, at_once: int) -> Throughput:
    """Submit failover jobs over `at_once` connections, and wait until all have ended.

    Raises RuntimeError if one of them does not succeed.
    """
    run = uuid.uuid4().hex[:8]
    job_ids: list[str] = []

    async def submit(n: int) -> None:
        job_ids.append(await system.submit(f"refused {run} {n}"))

    before = await system.counts()
    async with job_ends(system.kafka) as ends:
        with cpu_of(system.parts) as cpu:
            began = time.perf_counter()
            await each(submit, jobs, at_once)
            succeeded = await ends.of(job_ids)
            took_s = time.perf_counter() - began
    if succeeded < jobs:
        raise RuntimeError(f"{jobs - succeeded} of {jobs} jobs did not succeed")
    seen = await system.counts() - before
    return Throughput(
        jobs,
        jobs / took_s,
        {part: 1000 * s / jobs for part, s in cpu.by_part.items()},
        _total(seen, ("GET", "POST")) / jobs,
        _total(seen, ("connections",)) / jobs,
    )


def _total(counts: Counter[str], last_words: tuple[str, ...]) -> int:
    return sum(n for name, n in counts.items() if name.rpartition(" ")[2] in last_words)


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
