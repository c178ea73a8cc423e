"""All of Segue on a durable PostgreSQL and a Kafka cluster, with the cheap stand-in for the providers."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import httpx
import psutil
from bench.accounts import StatementLog

from segue_cli.local.ports import free_port
from segue_cli.local.process import child, ready_with
from segue_cli.stack.environment import without_settings
from segue_cli.stack.folder import held
from segue_cli.stack.run import LOOPBACK_HOSTS, SANDBOX_KEYS, Plan, postgres_home, stack

LAUNCHER: Final = Path(__file__).parents[1] / "deploy" / "kafka" / "kafka.py"
START_WITHIN_S: Final = 120
ENDS_WITHIN_S: Final = 60.0
ANSWERED_WITHIN_S: Final = 120
CONNECTIONS: Final = 200
KEEP_S: Final = 2
"""Seconds for which an idle connection is kept: the servers close one after five."""


def music(prompt: str) -> dict[str, object]:
    """The body of a request for two seconds of music."""
    return {"prompt": prompt, "duration_s": 2, "has_vocals": False, "style_strength": 0.5}


@dataclass(frozen=True, slots=True)
class System:
    """A running Segue, clients of it and of the stand-in, and its processes."""

    kafka: str
    api: aiohttp.ClientSession
    api_url: str
    providers: httpx.AsyncClient
    parts: Mapping[str, int]
    """The process ids of Segue's services, PostgreSQL and Kafka."""
    database_url: str
    statements: StatementLog
    addresses: Mapping[str, str]
    """Settings that lead to the stand-in."""
    env: Mapping[str, str]
    """The settings of all services."""
    run_s: float
    """Seconds that a run at a provider takes, unless a measure has it take another time."""

    async def submit(self, prompt: str, key: str | None = None) -> str:
        """Request two seconds of music; returns the job's id. Raises aiohttp.ClientResponseError if that is refused."""
        headers = {} if key is None else {"Idempotency-Key": key}
        async with self.api.post("/api/tracks", json=music(prompt), headers=headers) as answer:
            job_id: str = (await answer.json())["job_id"]
        return job_id

    async def posts(self) -> list[dict[str, Any]]:
        """The POSTs that the stand-in has seen: provider, prompt, and Unix times of the POST and of its webhook."""
        told: list[dict[str, Any]] = (await self.providers.get("/posts")).json()
        return told

    async def answer_posts_after(self, seconds: float) -> None:
        """Have the stand-in answer each POST after that time, from now on."""
        (await self.providers.put("/settings", json={"answer_s": seconds})).raise_for_status()

    @asynccontextmanager
    async def runs_that_take(self, seconds: float) -> AsyncIterator[None]:
        """Have the runs that begin within the block end after that time."""
        (await self.providers.put("/settings", json={"run_s": seconds})).raise_for_status()
        try:
            yield
        finally:
            (await self.providers.put("/settings", json={"run_s": self.run_s})).raise_for_status()

    async def end_held_runs(self) -> None:
        """Have the stand-in's runs whose prompt contains "held" end now."""
        (await self.providers.put("/settings", json={"held": False})).raise_for_status()

    async def database_bytes(self) -> int:
        """The size of the database."""
        connection = await asyncpg.connect(self.database_url)
        try:
            size: int = await connection.fetchval("SELECT pg_database_size(current_database())")
        finally:
            await connection.close()
        return size

    def resident_mb(self, part: str) -> float:
        """The resident memory of one of the parts, in megabytes."""
        process = psutil.Process(self.parts[part])
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 1e6

    async def counts(self) -> Counter[str]:
        """The stand-in's requests by provider and method, and its connections by provider."""
        return Counter((await self.providers.get("/counts")).json())


def client(url: str, headers: Mapping[str, str] | None = None) -> aiohttp.ClientSession:
    """A client of a server that is measured. It raises aiohttp.ClientResponseError for a status of 400 or more.

    It needs a fourth of the CPU time of httpx's, which it would take from what is measured on the same cores.
    """
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEEP_S)
    timeout = aiohttp.ClientTimeout(total=ANSWERED_WITHIN_S)
    return aiohttp.ClientSession(url, connector=connector, timeout=timeout, headers=headers, raise_for_status=True)


@asynccontextmanager
async def system(kafka: str, run_s: float = 0.001, *, webhooks: bool = True) -> AsyncIterator[System]:
    """Segue with both providers; `kafka` is "apache" (needs Java and Maven) or "embedded".

    A run at a provider takes `run_s` seconds. Without `webhooks` the providers have to be asked for its end.
    """
    async with AsyncExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="segue-bench-")))
        parts: dict[str, int] = {}
        environ = without_settings(os.environ)
        environ |= SANDBOX_KEYS | {"SEGUE_EGRESS_ALLOW": LOOPBACK_HOSTS}
        if kafka == "apache":
            argv = [sys.executable, str(LAUNCHER)]
            launched = child(argv, name="kafka", ready=ready_with("brokers"), ready_within_s=START_WITHIN_S)
            broker = await cleanup.enter_async_context(launched)
            environ["KAFKA_BOOTSTRAP_SERVERS"] = broker.ready["bootstrap_servers"]
            parts["kafka"] = broker.pid
        port = free_port()
        if webhooks:
            environ |= {
                "SEGUE_PUBLIC_URL": f"http://127.0.0.1:{port}",
                "SEGUE_CALLBACK_SECRET": secrets.token_hex(32),
            }
        argv = [sys.executable, "-m", "bench.stand_in", "--dir", str(folder), "--run-s", str(run_s)]
        providers = child(argv, name="providers", ready=ready_with("FAL_RUN_HOST"), cwd=str(Path(__file__).parents[1]))
        addresses = (await cleanup.enter_async_context(providers)).ready
        environ |= {name: str(value) for name, value in addresses.items()}
        state = cleanup.enter_context(held(folder / "segue"))
        # Of root it lies outside of the folder.
        cleanup.callback(shutil.rmtree, postgres_home(state), ignore_errors=True)
        running = await cleanup.enter_async_context(stack(Plan(state, environ, folder, live=True, port=port)))
        parts |= {part.name: part.pid for part in (*running.services, *running.local)}
        trust = ssl.create_default_context(cafile=addresses["SSL_CERT_FILE"])
        stand_in = httpx.AsyncClient(base_url=addresses["FAL_API_URL"], verify=trust, trust_env=False, timeout=60)
        async with client(running.api) as api, stand_in:
            yield System(
                running.env["KAFKA_BOOTSTRAP_SERVERS"],
                api,
                running.api,
                stand_in,
                parts,
                running.env["DATABASE_URL"],
                StatementLog(running.env["DATABASE_URL"], state.logs / "postgres.log"),
                {name: str(value) for name, value in addresses.items()},
                running.env,
                run_s,
            )


async def end(pid: int) -> None:
    """End a process that this run has started, and wait until it has ended."""
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + ENDS_WITHIN_S
    while psutil.pid_exists(pid) and time.monotonic() < until:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.1)
