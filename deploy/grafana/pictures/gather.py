"""A Segue that runs the scene beside a real Prometheus, and what every panel finds there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import httpx

from boards.queries import Json
from chaos.cluster.prometheus import prometheus_on
from pictures.ask import ask
from pictures.macros import SCRAPE_S
from pictures.scene import LENGTH_S, SETTINGS, Stage, play
from pictures.trouble import trouble
from segue_cli.local.ports import free_port
from segue_cli.local.process import child
from segue_cli.stack.environment import SANDBOX, SERVICES, without_settings
from segue_cli.stack.folder import held
from segue_cli.stack.roles import statements
from segue_cli.stack.run import Plan, Stack, stack

ROOT: Final = Path(__file__).resolve().parents[3]
RULES: Final = ROOT / "deploy" / "prometheus"
FOUND: Final = ROOT / "build" / "pictures" / "found.json"
"""What was found the last time."""
BUDGET_USD: Final = 60
SETTLE_S: Final = 25
"""Seconds for the last values to be read from PostgreSQL and scraped."""
BEFORE_S: Final = 20


def say(line: str) -> None:
    """Print one line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


async def gather() -> dict[str, Json]:
    """Run the scene, and return each dashboard with what its panels found, which is written to `FOUND` too."""
    with tempfile.TemporaryDirectory(prefix="segue-pictures-") as name:
        folder, port = Path(name), free_port()
        own = {"SEGUE_PUBLIC_URL": f"http://127.0.0.1:{port}", "SEGUE_CALLBACK_SECRET": "not-a-secret-" * 4}
        environ = without_settings(os.environ) | SETTINGS | own
        async with AsyncExitStack() as opened:
            state = opened.enter_context(held(folder / ".segue"))
            say("starting Segue")
            running = await opened.enter_async_context(stack(Plan(state, environ, folder, throwaway=True, port=port)))
            services = {name: [address] for name, _, address in _services(running)}
            rules = [RULES / "rules.yaml", _budget(folder)]
            prometheus = await opened.enter_async_context(
                prometheus_on(folder, services, rules, SCRAPE_S, lambda line: say(f"prometheus: {line}"))
            )
            began = datetime.now(UTC)
            await asyncio.sleep(BEFORE_S)
            say(f"jobs and faults for {LENGTH_S} s")
            await _play(running, opened)
            await asyncio.sleep(SETTLE_S)
            found = await _found(running, prometheus, began)
    FOUND.parent.mkdir(parents=True, exist_ok=True)
    FOUND.write_text(json.dumps(found), "utf-8")
    return found


def _services(running: Stack) -> list[tuple[str, str, str]]:
    return [pair.partition("=") for pair in running.env[SERVICES].split(",")]


def _budget(folder: Path) -> Path:
    file = folder / "budget.yaml"
    file.write_text((RULES / "budget.yaml").read_text("utf-8").replace("vector(Inf)", f"vector({BUDGET_USD})"))
    return file


async def _play(running: Stack, opened: AsyncExitStack) -> None:
    api = httpx.AsyncClient(base_url=running.api, trust_env=False, timeout=30)
    sandbox = httpx.AsyncClient(base_url=running.env[SANDBOX], trust_env=False, timeout=30)
    async with api, sandbox, asyncio.TaskGroup() as tasks:
        stage = Stage(api, sandbox, running.env["KAFKA_BOOTSTRAP_SERVERS"], say)
        tasks.create_task(_restart(running, "log-sink", opened))
        tasks.create_task(trouble(running.api, running.env["DATABASE_URL"], say))
        tasks.create_task(play(stage))


async def _restart(running: Stack, name: str, opened: AsyncExitStack) -> None:
    """Kill a service in the middle of it, and start it again after some seconds."""
    [part] = [part for part in running.services if part.name == name]
    await asyncio.sleep(LENGTH_S * 0.5)
    os.kill(part.pid, signal.SIGKILL)
    await part.process.wait()
    say(f"{name} was killed")
    await asyncio.sleep(12)
    argv = [sys.executable, "-m", name.replace("-", "_")]
    environ = without_settings(os.environ) | dict(running.env) | {"SEGUE_PORT": str(urlsplit(part.address).port)}
    await opened.enter_async_context(child(argv, name=name, env=environ, grace_s=30, on_line=lambda _: None))
    say(f"{name} is started again")


async def _found(running: Stack, prometheus: httpx.AsyncClient, began: datetime) -> dict[str, Json]:
    """What the panels find, asked as the role for people."""
    owner = await asyncpg.connect(running.env["DATABASE_URL"])
    for statement in statements("segue_", None):
        await owner.execute(statement)
    await owner.execute("SET ROLE segue_reader")
    found = await ask(prometheus, owner, began, datetime.now(UTC), say=say)
    await owner.close()
    return found
