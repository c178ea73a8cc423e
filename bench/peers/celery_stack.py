"""A FastAPI endpoint, a Celery worker (solo, concurrency 1) and Redis."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from bench.accounts import cpu_of
from bench.measures import Throughput, each
from bench.peers.environments import CELERY, environment, redis_server
from bench.system import client

from segue_cli.local.ports import free_port
from segue_cli.local.process import LineSink, ReadyLine, child

Counts = Callable[[], Awaitable[Counter[str]]]
APP = "bench.peers.celery_app"


@dataclass(frozen=True, slots=True)
class CeleryStack:
    """A running endpoint with its worker."""

    url: str
    """The address of the endpoint."""
    api: aiohttp.ClientSession
    parts: Mapping[str, int]
    """The process ids of the endpoint, the worker and Redis."""
    counts: Counts

    async def submit(self, prompt: str) -> str:
        """Request a job; returns its id. Raises aiohttp.ClientResponseError if that is refused."""
        async with self.api.post("/jobs", json={"prompt": prompt}) as answer:
            job_id: str = (await answer.json())["job_id"]
        return job_id

    async def throughput(self, jobs: int, at_once: int) -> Throughput:
        """Submit failover jobs over `at_once` connections, and wait until all have ended."""
        run = uuid.uuid4().hex[:8]
        job_ids: list[str] = []

        async def submit(n: int) -> None:
            job_ids.append(await self.submit(f"refused {run} {n}"))

        before = (await self.counts())["replicate POST"]
        with cpu_of(self.parts) as cpu:
            began = time.perf_counter()
            await each(submit, jobs, at_once)
            # Asking the endpoint would take CPU time of it. The worker makes one job at a time.
            while (await self.counts())["replicate POST"] < before + jobs:  # noqa: ASYNC110 - it counts elsewhere
                await asyncio.sleep(0.05)
            await asyncio.gather(*(self._ended(job_id) for job_id in job_ids[-at_once:]))
            took_s = time.perf_counter() - began
        return Throughput(jobs, jobs / took_s, {part: 1000 * s / jobs for part, s in cpu.by_part.items()}, 0, 0)

    async def _ended(self, job_id: str) -> None:
        while (status := await self._status(job_id)) != "SUCCESS":
            if status == "FAILURE":
                raise RuntimeError(f"Celery's job {job_id} failed")
            await asyncio.sleep(0.02)

    async def _status(self, job_id: str) -> str:
        async with self.api.get(f"/jobs/{job_id}") as answer:
            return str((await answer.json())["status"])


@asynccontextmanager
async def celery_stack(addresses: Mapping[str, str], counts: Counts, log: LineSink) -> AsyncIterator[CeleryStack]:
    """Run it, with the stand-in's addresses and counts. Raises Missing if it cannot be installed here."""
    programs = await asyncio.to_thread(environment, "celery", CELERY)
    redis = redis_server(programs)
    redis_port, port = free_port(), free_port()
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env |= {**addresses, "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0"}
    root = str(Path(__file__).parents[2])
    python = str(programs / "python")
    programs_of = {
        "redis": ([redis, "--port", str(redis_port), "--bind", "127.0.0.1", "--save", ""], "Ready to accept"),
        "worker": (
            [python, "-m", "celery", "-A", f"{APP}:worker", "worker", "--pool", "solo", "--concurrency", "1"],
            "key=celery",
        ),
        "endpoint": (
            [python, "-m", "uvicorn", f"{APP}:api", "--port", str(port), "--no-access-log"],
            "Uvicorn running on",
        ),
    }
    async with AsyncExitStack() as cleanup:
        parts = {}
        for name, (argv, words) in programs_of.items():
            started = child(argv, name=name, env=env, cwd=root, on_line=log, ready=ready_when(words))
            parts[name] = (await cleanup.enter_async_context(started)).pid
        url = f"http://127.0.0.1:{port}"
        async with client(url) as api:
            yield CeleryStack(url, api, parts, counts)


def ready_when(words: str) -> ReadyLine:
    """A child is ready when a line of its output contains these words."""
    return lambda line: {"line": line} if words in line else None
