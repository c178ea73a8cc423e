"""What the gateway reads while many attempts are stored, beside the same with few: two gateways, asked in turns.

`python -m bench.extended.logs_at_scale [ATTEMPTS]` measures this alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
from bench.extended.filled import fill
from bench.measures import percentiles

from chassis.postgres.pool import open_pool
from contracts.topics import PARTITIONS, TOPICS
from gateway.http.pagination import cursor_text
from log_sink.retention.rows import log_tasks
from segue_cli.local.kafka import kafka
from segue_cli.local.ports import LOOPBACK, free_port
from segue_cli.local.postgres import postgres
from segue_cli.local.process import START_LIMIT_S, ChildFailed, child
from segue_cli.stack.environment import without_settings

FEW: Final = 10_000
MANY: Final = 10_000_000
REQUESTS: Final = 1000
"""Requests of each kind to each gateway."""
WARM_UP: Final = 20
LONG_S: Final = 60.0
"""Seconds after which no more requests of a kind are sent, because each scans a table."""
MISPLACED: Final = 10_000
"""Expired events in the default partition."""
KEEP: Final = timedelta(days=50)
"""The retention of the run that deletes."""
LOG: Final = "GET /api/jobs/{id}/logs"


@dataclass(frozen=True, slots=True)
class Read:
    """One kind of request: p50 and p99 in milliseconds."""

    what: str
    few: tuple[float, float]
    many: tuple[float, float]
    refused: int = 0
    """Answers 503 of both gateways, whose time counts too: PostgreSQL did not answer within the limit of a request."""


@dataclass(frozen=True, slots=True)
class AtScale:
    """What was measured with many attempts, and with few beside them."""

    attempts: tuple[int, int]
    reads: list[Read]
    filled_s: float
    """Seconds that it took to fill the larger database."""
    gigabytes: float
    """Its size."""
    retention: dict[str, tuple[int, float, float]]
    """By kind of rows that have expired there: how many were deleted, in seconds, and the longest batch in seconds.

    Of months_of_events they are partitions.
    """


@dataclass(frozen=True, slots=True)
class _Stored:
    api: httpx.AsyncClient
    url: str
    logged: Sequence[str]
    middle: str
    """The cursor of a page in the middle of the list of jobs."""


async def logs_at_scale(attempts: int, tell: Callable[[str], None]) -> AtScale:
    """Fill two databases, and measure. Raises ChildFailed if a gateway does not start."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(postgres())
        broker = await stack.enter_async_context(kafka({topic.name: PARTITIONS for topic in TOPICS}))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="segue-bench-logs-"))
        found = []
        for size in (FEW, attempts):
            tell(f"store {size:,} attempts")
            began = time.monotonic()
            found.append(await _stored(server.url, size, broker.bootstrap_servers, folder, stack))
            filled_s = time.monotonic() - began
        few, many = found
        reads = [await _read(what, path, few, many, tell) for what, path in _PATHS.items()]
        tell("delete what has expired")
        retention = await _retention(many.url)
        size_bytes = await _value(many.url, "SELECT pg_database_size(current_database())")
    return AtScale((FEW, attempts), reads, filled_s, size_bytes / 1e9, retention)


_PATHS: Final[dict[str, Callable[[_Stored, random.Random], str]]] = {
    LOG: lambda at, rng: f"/api/jobs/{rng.choice(at.logged)}/logs",
    "GET /api/jobs/{id}": lambda at, rng: f"/api/jobs/{rng.choice(at.logged)}",
    "GET /api/jobs": lambda at, rng: "/api/jobs",
    "GET /api/jobs, a page in the middle": lambda at, rng: f"/api/jobs?cursor={at.middle}",
    "GET /api/jobs?status=failed, one in a thousand": lambda at, rng: "/api/jobs?status=failed",
    "GET /api/jobs?status=running, none": lambda at, rng: "/api/jobs?status=running",
    "GET /api/jobs?provider=fal, none": lambda at, rng: "/api/jobs?provider=fal",
    "GET /api/jobs?model=music/lyria-2, none": lambda at, rng: "/api/jobs?model=music/lyria-2",
}


async def _stored(server: str, attempts: int, brokers: str, folder: str, stack: AsyncExitStack) -> _Stored:
    name = f"attempts_{attempts}"
    await _value(server, f"CREATE DATABASE {name}")
    url = f"{server.rpartition('/')[0]}/{name}"
    logged = await fill(url, attempts, MISPLACED)
    middle = logged[len(logged) // 2]
    at = await _value(url, "SELECT requested_at FROM log_sink.jobs WHERE job_id = $1", middle)
    api = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=60))
    port = free_port()
    env = without_settings(os.environ) | {
        "DATABASE_URL": url,
        "KAFKA_BOOTSTRAP_SERVERS": brokers,
        "ARTIFACT_STORE_URL": Path(folder).as_uri(),
        "SEGUE_PORT": str(port),
    }
    gateway = await stack.enter_async_context(child([sys.executable, "-m", "gateway"], name=name, env=env, cwd=folder))
    api.base_url = httpx.URL(f"http://{LOOPBACK}:{port}")
    until = time.monotonic() + START_LIMIT_S
    while True:
        try:
            if (await api.get("/readyz")).is_success:
                break
        except httpx.TransportError:
            pass
        if gateway.returncode is not None or time.monotonic() > until:
            raise ChildFailed("\n".join(["the gateway is not ready", *gateway.tail]))
        await asyncio.sleep(0.1)
    return _Stored(api, url, logged, cursor_text((at, middle)) or "")


async def _read(
    what: str, path: Callable[[_Stored, random.Random], str], few: _Stored, many: _Stored, tell: Callable[[str], None]
) -> Read:
    tell(what)
    rng = random.Random(what)
    took: tuple[list[float], list[float]] = [], []
    refused = 0
    for n in range(-WARM_UP, REQUESTS):
        for at, seconds in zip((few, many), took, strict=True):
            began = time.perf_counter()
            answer = await at.api.get(path(at, rng))
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                answer.raise_for_status()
            if n >= 0:
                refused += not answer.is_success
                seconds.append(time.perf_counter() - began)
        if n >= 50 and sum(took[1]) > LONG_S:
            break
    found = Read(what, percentiles(took[0]), percentiles(took[1]), refused)
    tell(f"  {found}")
    return found


async def _retention(url: str) -> dict[str, tuple[int, float, float]]:
    found = {}
    async with open_pool(url, "log_sink") as pool, pool.acquire() as connection:
        for task in log_tasks(KEEP):
            deleted, batches, began = 0, [0.0], time.monotonic()
            async for n in task.batches(connection):
                deleted += n
                batches.append(time.monotonic() - began)
            longest = max((b - a for a, b in pairwise(batches)), default=0.0)
            found[task.what] = deleted, batches[-1], longest
    return found


async def _value(url: str, sql: str, *arguments: object) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql, *arguments)
    finally:
        await connection.close()


async def main() -> None:
    """Measure with the number of attempts that is given, or MANY, and print the result."""
    began = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {line}", flush=True)

    print(await logs_at_scale(int(sys.argv[1]) if sys.argv[1:] else MANY, tell))


if __name__ == "__main__":
    asyncio.run(main())
