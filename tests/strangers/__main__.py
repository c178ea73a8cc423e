"""Ten thousand hostile connections of each sort against a real gateway, with ordinary clients beside them.

`nice python -m tests.strangers --sorts idle,half-line --files 1024 --connections 10000 --seconds 60`

Only against 127.0.0.1, and each sort for at most two minutes. The exit code is 1 if an ordinary request or the health
page failed. The hostile clients run at low priority, since they would not share the processor of the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.patience import patient
from tests.strangers.clients import MOST_SECONDS
from tests.strangers.ordinary import Waits, failures, requesting
from tests.strangers.sorts import SORTS

import log_sink
from chassis.postgres.pool import migrate
from contracts.topics import PARTITIONS, TOPICS
from segue_cli.local.kafka import kafka
from segue_cli.local.ports import free_port
from segue_cli.local.postgres import postgres

PROCESSES = 2
TRACK = {"prompt": "Warm ambient pad", "duration_s": 20, "has_vocals": False, "style_strength": 0.5}


@dataclass
class Running:
    """A gateway process and its log."""

    process: psutil.Process
    port: int
    health_port: int
    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()


@asynccontextmanager
async def gateway(files: int, folder: Path, **more: str) -> AsyncIterator[Running]:
    """A gateway that may open `files` files, with a Kafka and a PostgreSQL of its own."""
    async with kafka({topic.name: PARTITIONS for topic in TOPICS}) as cluster, postgres() as server:
        await migrate(server.url, "log_sink", log_sink)
        log = folder / "gateway.log"
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
            "DATABASE_URL": server.url,
            "ARTIFACT_STORE_URL": (folder / "artifacts").as_uri(),
            "SEGUE_PORT": str(free_port()),
            "SEGUE_HEALTH_PORT": str(free_port()),
            **more,
        }
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway",
                env=env,
                stdout=out,
                stderr=out,
                cwd=folder,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
            )
        try:
            running = Running(psutil.Process(process.pid), int(env["SEGUE_PORT"]), int(env["SEGUE_HEALTH_PORT"]), log)
            await _until_ready(running)
            yield running
        finally:
            process.terminate()
            async with asyncio.timeout(patient(40)):
                await process.wait()


async def _until_ready(running: Running) -> None:
    import httpx

    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(patient(60)):
        while True:
            try:
                if (await client.get(f"http://127.0.0.1:{running.health_port}/readyz")).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)


@asynccontextmanager
async def clients(running: Running) -> AsyncIterator[dict[str, Waits]]:
    """Run ordinary clients for the length of the block; yields their results by name."""
    api, health = f"http://127.0.0.1:{running.port}", f"http://127.0.0.1:{running.health_port}"
    async with AsyncExitStack() as stack:
        yield {
            "GET, new connections": await stack.enter_async_context(
                requesting("GET", f"{api}/api/jobs?limit=1", 200, every_s=0.1, fresh=True)
            ),
            "GET, kept connection": await stack.enter_async_context(
                requesting("GET", f"{api}/api/jobs?limit=1", 200, every_s=0.1, fresh=False)
            ),
            "POST, new connections": await stack.enter_async_context(
                requesting("POST", f"{api}/api/tracks", 202, every_s=0.2, fresh=True, body=TRACK)
            ),
            "/livez": await stack.enter_async_context(
                requesting("GET", f"{health}/livez", 200, every_s=0.2, fresh=True)
            ),
        }


async def hostile(sort: str, running: Running, connections: int, seconds: int) -> Counter[str]:
    """Run hostile clients in separate processes until they end; returns their counts."""
    each = connections // PROCESSES
    argv = ["-m", "tests.strangers.clients", "--sort", sort, "--port", str(running.port)]
    argv += ["--connections", str(each), "--seconds", str(seconds)]
    started = [
        await asyncio.create_subprocess_exec("nice", sys.executable, *argv, stdout=asyncio.subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    counts: Counter[str] = Counter()
    for process in started:
        output, _ = await process.communicate()
        counts.update(json.loads(output or "{}"))
    return counts


async def attack(sort: str, running: Running, options: argparse.Namespace) -> bool:
    """Run one sort and print the measurements; returns whether every ordinary request succeeded."""
    lines, cpu = len(running.lines()), sum(running.process.cpu_times()[:2])
    before = running.process.memory_info().rss
    most = files = 0
    began = time.monotonic()
    async with clients(running) as seen:
        attacking = asyncio.create_task(hostile(sort, running, options.connections, options.seconds))
        while not attacking.done():
            most = max(most, running.process.memory_info().rss)
            files = max(files, running.process.num_fds())
            await asyncio.wait({attacking}, timeout=patient(0.2))
    took = time.monotonic() - began
    cpu = sum(running.process.cpu_times()[:2]) - cpu
    print(f"{sort}: {dict(attacking.result())}")
    print(f"  RSS {before / 1e6:.0f} MB before, {most / 1e6:.0f} MB at most; {files} files; CPU {cpu / took:.0%}")
    new = running.lines()[lines:]
    print(f"  {len(new)} log lines")
    for line in new[: options.show]:
        print(f"    {line[:400]}")
    for name, waits in seen.items():
        print(f"  {name}: {waits}", flush=True)
    return not failures(list(seen.values()))


async def run(options: argparse.Namespace) -> int:
    """Run the chosen sorts one after the other; returns the exit code."""
    fine = True
    with tempfile.TemporaryDirectory(prefix="segue-strangers-") as name:
        async with gateway(options.files, Path(name)) as running:
            async with clients(running) as alone:
                await asyncio.sleep(min(10, options.seconds))
            print(f"without hostile connections, {options.files} files:")
            for what, waits in alone.items():
                print(f"  {what}: {waits}", flush=True)
            for sort in SORTS if options.sorts == "all" else options.sorts.split(","):
                fine = await attack(sort, running, options) and fine
    return 0 if fine else 1


def main() -> None:
    """Run as a program."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sorts", default="all")
    options.add_argument("--files", type=int, default=1024)
    options.add_argument("--connections", type=int, default=10_000)
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--show", type=int, default=5, help="log lines of the gateway to show for each sort")
    chosen = options.parse_args()
    chosen.seconds = min(chosen.seconds, MOST_SECONDS)
    sys.exit(asyncio.run(run(chosen)))


if __name__ == "__main__":
    main()
