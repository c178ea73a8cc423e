"""Each service while PostgreSQL does not answer: it keeps running, resumes afterwards, and stops on SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from chaos.cluster.proxy import Proxy
from contracts.topics import SERVICES
from segue_cli.local.process import child

DRAIN_S = 25
SLACK_S = 30
"""For a slow machine. A process that does not stop by itself is ended after the drain, with a code other than 0."""


@pytest_asyncio.fixture
async def proxied(database_url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """The proxy between a service and its database, and the URL of the database through it."""
    place = urlsplit(database_url)
    async with Proxy(place.hostname or "", place.port or 0).running() as proxy:
        yield proxy, place._replace(netloc=f"{place.username}@127.0.0.1:{proxy.listens_at}").geturl()


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def environment(servers: str, url: str, folder: Path) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "DATABASE_URL": url,
        "ARTIFACT_STORE_URL": folder.as_uri(),
        "SEGUE_PORT": "0",
        "SEGUE_DRAIN_S": str(DRAIN_S),
        "FAL_KEY": "id:secret",
        "FAL_RUN_HOST": "127.0.0.1:1",
        "FAL_QUEUE_RUN_HOST": "127.0.0.1:1",
        "FAL_API_URL": "http://127.0.0.1:1",
        "REPLICATE_API_TOKEN": "r8_secret",
        "REPLICATE_BASE_URL": "http://127.0.0.1:1",
        "PATH": os.defpath,
    }


@pytest.mark.e2e
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_survives_a_silent_database_and_stops_during_the_silence(
    service: str, embedded_kafka: str, database_url: str, proxied: tuple[Proxy, str], tmp_path: Path
) -> None:
    proxy, url = proxied
    lines: list[str] = []

    async def said(text: str) -> bool:
        return any(text in line for line in lines)

    async def queries_again() -> bool:
        count = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'segue-%' AND state_change > $1", healed
        )
        return bool(count)

    name = service.replace("-", "_")
    argv, env = [sys.executable, "-m", name], environment(embedded_kafka, url, tmp_path)
    connection = await asyncpg.connect(database_url)
    try:
        async with child(argv, name=service, env=env, cwd=str(tmp_path), on_line=lines.append) as process:
            await until(lambda: said('"event": "ready"'))
            if service in ("orchestrator", "fal-adapter", "replicate-adapter"):  # These query continuously.
                proxy.blackhole = True
                await until(lambda: said("the database does not answer"))
                proxy.heal()
                healed = await connection.fetchval("SELECT now()")
                await until(queries_again)
            proxy.blackhole = True
            os.kill(process.pid, signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), DRAIN_S + SLACK_S)
            assert code == 0, "\n".join(lines[-5:])
    finally:
        await connection.close()
    assert [line for line in lines if "did not drain in time" in line or "Traceback" in line] == []
