"""The measures of one run, in interleaved rounds: of Segue, and of its peers on the same machine."""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Final, Protocol, TypeVar

import aiohttp
import asyncpg
import httpx
from bench.accepted import Answers, Endpoint, answers
from bench.accounts import cpu_of
from bench.extended.flight import Flight, flight
from bench.extended.held import Held, held
from bench.extended.logs_at_scale import MANY, AtScale, logs_at_scale
from bench.extended.pauses import KILLS_S, Bounded, pauses
from bench.extended.sink import SinkRate, sink_alone
from bench.job_cost import JobCost, job_cost
from bench.measures import Latencies, Throughput, latencies, throughput
from bench.peers.celery_stack import CeleryStack, celery_stack
from bench.peers.environments import CELERY, LITELLM, Missing
from bench.peers.litellm_proxy import litellm_proxy
from bench.system import System, end, music, system

from segue_cli.local.process import ChildFailed
from segue_cli.stack.components import StackFailed

SEGUE: Final = "Segue"
CELERY_STACK: Final = "FastAPI + Celery"
LITELLM_PROXY: Final = "LiteLLM"
LITELLM_ONCE: Final = "LiteLLM without retries"
SLOW: Final = {CELERY_STACK: 5, LITELLM_PROXY: 2}
"""By what their jobs are divided: one makes a job at a time, the other waits some seconds for each."""
KEYED: Final = "Segue with an Idempotency-Key"
ANSWER_S: Final = 0.05
"""How long a provider takes to answer a POST while the throughput is measured."""
AT_ONCE: Final = 20
IDLE_S: Final = 10.0
NEW_FILES: Final = 100


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int
    jobs: int
    """Failover jobs in a round; of those in `SLOW` there are fewer, but one for each connection at least."""
    alone: int
    """Jobs that run one after the other for the latencies."""
    seconds: float
    """Seconds of each round of accepted requests."""
    in_flight: tuple[int, ...]
    polled: int
    """Runs in flight at one adapter without webhooks."""
    sink_events: int
    """Events that a log sink stores alone."""
    stored: int
    """Attempts that are stored while logs are read; 0: this is not measured."""
    killing_s: float
    """Seconds for which replicas are killed; 0: no pauses are measured."""


FULL: Final = Sizes(
    rounds=5,
    jobs=200,
    alone=100,
    seconds=5,
    in_flight=(50, 500, 5000),
    polled=20_000,
    sink_events=100_000,
    stored=MANY,
    killing_s=KILLS_S,
)
SHORT: Final = Sizes(
    rounds=1, jobs=60, alone=20, seconds=3, in_flight=(), polled=0, sink_events=0, stored=0, killing_s=0
)


@dataclass(slots=True)
class Results:
    """What a run has found."""

    conditions: dict[str, str]
    latencies: Latencies | None = None
    cost: JobCost | None = None
    throughput: dict[str, list[Throughput]] = field(default_factory=dict)
    answers: dict[str, list[Answers]] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    """Cores that each process keeps busy without any job."""
    bytes_per_job: float = 0
    """Growth of the database per failover job."""
    held: list[Held] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    sink: SinkRate | None = None
    flight: Flight | None = None
    at_scale: AtScale | None = None
    pauses: list[Bounded] = field(default_factory=list)


class Peer(Protocol):
    """A system that can make failover jobs."""

    async def throughput(self, jobs: int, at_once: int) -> Throughput: ...


def conditions(kafka: str, sizes: Sizes) -> dict[str, str]:
    """What the figures depend on."""
    models = [line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{os.cpu_count()} cores, {models[0] if models else platform.processor() or 'unknown'}",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "a new folder and a file": f"{1000 * _new_file_s():.2f} ms of CPU time",
        "Python": platform.python_version(),
        "Kafka": "Apache Kafka, one broker" if kafka == "apache" else "the embedded cluster, which is not durable",
        "peers": ", ".join((CELERY[0], LITELLM[0])),
        "aiokafka, asyncpg": f"{version('aiokafka')}, {version('asyncpg')}",
        "rounds": str(sizes.rounds),
    }


def _new_file_s() -> float:
    """CPU time in seconds of a new folder with a new file, where outputs are stored, before the first system starts.

    An ext4 without a journal takes fifty times as long while it passes over files that were deleted in the last
    minutes: https://github.com/torvalds/linux/blob/v6.18/fs/ext4/ialloc.c, `recently_deleted`.
    """
    with tempfile.TemporaryDirectory(prefix="segue-bench-") as name:
        began = time.process_time()
        for n in range(NEW_FILES):
            folder = Path(name) / str(n)
            folder.mkdir()
            (folder / "file").touch()
        return (time.process_time() - began) / NEW_FILES


def _cpu_info() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


async def measure(kafka: str, sizes: Sizes, tell: Callable[[str], None]) -> Results:
    """Measure everything, and say with `tell` what is being done."""
    results = Results(conditions(kafka, sizes))
    async with AsyncExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="segue-bench-peers-")))
        tell("start Segue")
        ours = await cleanup.enter_async_context(system(kafka))
        tell(f"latencies of {sizes.alone} jobs, one after the other")
        results.latencies = await latencies(ours, sizes.alone)
        tell("statements, commits, records and requests of single jobs")
        results.cost = await job_cost(ours, 10)
        tell("Segue without any job")
        with cpu_of(ours.parts) as idle:
            await asyncio.sleep(IDLE_S)
        results.idle = {part: s / IDLE_S for part, s in idle.by_part.items()}
        celery = await _peer(CELERY_STACK, celery_stack(ours.addresses, ours.counts, _ignore), cleanup, results, tell)
        proxy = await _peer(LITELLM_PROXY, litellm_proxy(ours.addresses, folder, _ignore), cleanup, results, tell)
        once = proxy and proxy.without_retries
        peers = {CELERY_STACK: celery, LITELLM_PROXY: proxy, LITELLM_ONCE: once}
        await _throughput(results, sizes, ours, peers, tell)
        await _answers(results, sizes, ours, celery, tell)
    if sizes.in_flight:
        with left_out_if_it_fails("jobs in flight", results, tell):
            async with system(kafka) as ours:
                results.held = await held(ours, sizes.in_flight, tell)
    if sizes.sink_events:
        with left_out_if_it_fails(f"a log sink alone with {sizes.sink_events} events", results, tell):
            async with system(kafka) as ours:
                results.sink = await sink_alone(ours, sizes.sink_events)
    if sizes.polled:
        with left_out_if_it_fails(f"{sizes.polled} runs in flight without webhooks", results, tell):
            async with system(kafka, webhooks=False) as ours:
                results.flight = await flight(ours, sizes.polled)
    if sizes.stored:
        with left_out_if_it_fails("reads with many attempts stored", results, tell):
            results.at_scale = await logs_at_scale(sizes.stored, tell)
    if sizes.killing_s and kafka == "apache":
        with left_out_if_it_fails("pauses", results, tell):
            results.pauses = await pauses(sizes.killing_s, tell)
    return results


@contextmanager
def left_out_if_it_fails(what: str, results: Results, tell: Callable[[str], None]) -> Iterator[None]:
    """Keep what was measured before if one measure fails, with a line in the results that says so."""
    tell(f"start another Segue: {what}")
    try:
        yield
    except (
        OSError,
        AssertionError,
        asyncpg.PostgresError,
        aiohttp.ClientError,
        httpx.HTTPError,
        ChildFailed,
        StackFailed,
    ) as error:
        results.skipped.append(f"{what[0].upper()}{what[1:]}: not measured, {' '.join(repr(error).split())[:300]}")
        tell(results.skipped[-1])


async def _throughput(
    results: Results, sizes: Sizes, ours: System, peers: Mapping[str, Peer | None], tell: Callable[[str], None]
) -> None:
    """Rounds of failover jobs, while a POST takes as long as one over the network.

    One round of each comes before those that count: the JVM compiles meanwhile, and connections are opened.
    """
    await ours.answer_posts_after(ANSWER_S)
    runs: dict[str, Callable[[], Awaitable[Throughput]]] = {SEGUE: partial(throughput, ours, sizes.jobs, AT_ONCE)}
    for name, peer in peers.items():
        if peer is not None:
            jobs = max(AT_ONCE, sizes.jobs // SLOW.get(name, 1))
            runs[name] = partial(peer.throughput, jobs, AT_ONCE)
    for name, run in runs.items():
        tell(f"a round that does not count: failover jobs, {name}")
        await run()
    before = await ours.database_bytes()
    for n in range(sizes.rounds):
        for name, run in runs.items():
            tell(f"round {n + 1} of {sizes.rounds}: failover jobs, {name}")
            results.throughput.setdefault(name, []).append(await run())
    results.bytes_per_job = (await ours.database_bytes() - before) / (sizes.rounds * sizes.jobs)
    await ours.answer_posts_after(0)


async def _answers(
    results: Results, sizes: Sizes, ours: System, celery: CeleryStack | None, tell: Callable[[str], None]
) -> None:
    """Rounds of accepted requests. What would work on the jobs is ended first: the endpoint alone is measured."""
    await end(ours.parts["orchestrator"])
    url, gateway, keys = f"{ours.api_url}/api/tracks", ours.parts["gateway"], count()
    endpoints = {
        SEGUE: Endpoint(url, gateway, _music),
        KEYED: Endpoint(url, gateway, _music, lambda _: {"Idempotency-Key": f"{next(keys)}"}),
    }
    if celery is not None:
        await end(celery.parts["worker"])
        endpoints[CELERY_STACK] = Endpoint(
            f"{celery.url}/jobs", celery.parts["endpoint"], lambda n: {"prompt": f"answer {n}"}
        )
    for n in range(sizes.rounds):
        for name, endpoint in endpoints.items():
            tell(f"round {n + 1} of {sizes.rounds}: accepted requests, {name}")
            results.answers.setdefault(name, []).append(await answers(endpoint, sizes.seconds, 32))


def _music(n: int) -> dict[str, object]:
    return music(f"answer {n}")


T = TypeVar("T")


async def _peer(
    name: str,
    starting: AbstractAsyncContextManager[T],
    cleanup: AsyncExitStack,
    results: Results,
    tell: Callable[[str], None],
) -> T | None:
    """The running peer; None, and a line in the results, if it cannot run here."""
    tell(f"start {name}")
    try:
        return await cleanup.enter_async_context(starting)
    except Missing as error:
        results.skipped.append(str(error))
    except ChildFailed as error:
        results.skipped.append(f"{name} is skipped: {' '.join(str(error).split())[:300]}")
    tell(results.skipped[-1])
    return None


def _ignore(_: str) -> None:
    """The output of a peer."""
