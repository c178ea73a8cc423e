"""`make dashboards-pictures` runs Segue with jobs and faults, asks what the dashboards ask, and draws each of them.

It says which panels found nothing. `--redraw` draws what was found the last time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import httpx
import yaml

from boards.files import FOLDER as DASHBOARDS
from boards.queries import Json
from pictures.draw import NEEDED, draw
from pictures.frames import exemplars, of_postgres, of_prometheus
from pictures.macros import SCRAPE_S, Shown, variables_of
from pictures.scene import LENGTH_S, SETTINGS, Stage, play
from segue_cli.local.ports import free_port
from segue_cli.local.process import child
from segue_cli.stack.environment import SANDBOX, SERVICES, without_settings
from segue_cli.stack.folder import held
from segue_cli.stack.roles import statements
from segue_cli.stack.run import Plan, Stack, stack

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD: Final = ROOT / "build" / "pictures"
PICTURES: Final = ROOT / "docs" / "dashboards"
RULES: Final = ROOT / "deploy" / "prometheus"
BUDGET_USD: Final = 60
SETTLE_S: Final = 25
"""Seconds for the last values to be read from PostgreSQL and scraped."""
BEFORE_S: Final = 20
STEP_S: Final = 5
NEWEST: Final = """
    SELECT job_id FROM log_sink.v_attempts
    GROUP BY job_id ORDER BY bool_or(error_kind = 'output_lost') DESC NULLS LAST, count(*) DESC, job_id LIMIT 1
"""
"""The job that "jobs" shows in full."""


def say(line: str) -> None:
    """Print one line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


async def gather() -> dict[str, Json]:
    """Run the scene, and return each dashboard with what its panels found."""
    with tempfile.TemporaryDirectory(prefix="segue-pictures-") as name:
        folder, port = Path(name), free_port()
        own = {"SEGUE_PUBLIC_URL": f"http://127.0.0.1:{port}", "SEGUE_CALLBACK_SECRET": "not-a-secret-" * 4}
        environ = without_settings(os.environ) | SETTINGS | own
        async with AsyncExitStack() as opened:
            state = opened.enter_context(held(folder / ".segue"))
            say("starting Segue")
            running = await opened.enter_async_context(stack(Plan(state, environ, folder, throwaway=True, port=port)))
            client = httpx.AsyncClient(trust_env=False, timeout=30)
            await opened.enter_async_context(client)
            prometheus = await opened.enter_async_context(_prometheus(folder, running, client))
            began = datetime.now(UTC)
            await asyncio.sleep(BEFORE_S)
            say(f"jobs and faults for {LENGTH_S} s")
            await _play(running, opened)
            await asyncio.sleep(SETTLE_S)
            return await _ask(running, prometheus, began)


async def _play(running: Stack, opened: AsyncExitStack) -> None:
    api = httpx.AsyncClient(base_url=running.api, trust_env=False, timeout=30)
    sandbox = httpx.AsyncClient(base_url=running.env[SANDBOX], trust_env=False, timeout=30)
    async with api, sandbox:
        stage = Stage(api, sandbox, running.env["KAFKA_BOOTSTRAP_SERVERS"], say)
        restart = asyncio.create_task(_restart(running, "log-sink", opened))
        await play(stage)
        await restart


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


@asynccontextmanager
async def _prometheus(folder: Path, running: Stack, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus that scrapes the services and knows the rules; yields a client of its API."""
    budget = folder / "budget.yaml"
    budget.write_text((RULES / "budget.yaml").read_text("utf-8").replace("vector(Inf)", f"vector({BUDGET_USD})"))
    services = dict(pair.split("=") for pair in running.env[SERVICES].split(","))
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [str(RULES / "rules.yaml"), str(budget)],
        "scrape_configs": [
            {
                "job_name": "segue",
                "static_configs": [
                    {"targets": [urlsplit(address).netloc], "labels": {"service": name}}
                    for name, address in services.items()
                ],
            }
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    argv = ["prometheus", f"--config.file={folder / 'prometheus.yaml'}", f"--web.listen-address={address}"]
    argv += [f"--storage.tsdb.path={folder / 'tsdb'}", "--enable-feature=exemplar-storage", "--log.level=warn"]
    async with child(argv, name="prometheus", on_line=lambda line: say(f"prometheus: {line}")):
        while True:
            try:
                if (await client.get(f"http://{address}/-/ready")).is_success:
                    break
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=30) as api:
            yield api


async def _ask(running: Stack, prometheus: httpx.AsyncClient, began: datetime) -> dict[str, Json]:
    """Each dashboard with the frames of each panel, asked as the role for people."""
    owner = await asyncpg.connect(running.env["DATABASE_URL"])
    for statement in statements("segue_", None):
        await owner.execute(statement)
    await owner.execute("SET ROLE segue_reader")
    until = datetime.now(UTC)
    found: dict[str, Json] = {}
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text("utf-8"))
        chosen = {"job": await owner.fetchval(NEWEST)}
        shown = Shown(began, until, STEP_S, variables_of(board), chosen)
        frames: dict[str, list[Json]] = {}
        for panel in board["panels"]:
            frames[str(panel["id"])] = [
                frame
                for target in panel.get("targets", [])
                for frame in await _frames(target, prometheus, owner, shown)
            ]
        ends = {"from": round(began.timestamp() * 1000), "to": round(until.timestamp() * 1000)}
        found[path.stem] = {"dashboard": board, "frames": frames, "range": ends, "chosen": chosen}
    await owner.close()
    return found


async def _frames(
    target: Json, prometheus: httpx.AsyncClient, owner: asyncpg.Connection[asyncpg.Record], shown: Shown
) -> list[Json]:
    if target["datasource"]["type"] != "prometheus":
        return await of_postgres(owner, target, shown)
    if target["exemplar"]:
        say(f"{await exemplars(prometheus, target, shown)} exemplars of {target['expr'][:60]} …")
    return await of_prometheus(prometheus, target, shown)


def report(found: Mapping[str, Any]) -> int:
    """Print which panels found nothing; returns how many found something."""
    asked = [
        (name, panel["title"], bool(board["frames"][str(panel["id"])]))
        for name, board in found.items()
        for panel in board["dashboard"]["panels"]
        if panel["type"] != "row"
    ]
    for name, title, some in asked:
        if not some:
            say(f"nothing: {name}: {title}")
    full = sum(some for _, _, some in asked)
    say(f"{full} of {len(asked)} panels found something")
    return full


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redraw", action="store_true", help="draw what was found the last time")
    parser.add_argument("--only", help="one dashboard, by the name of its file")
    options = parser.parse_args()
    if missing := [tool for tool in NEEDED if shutil.which(tool) is None]:
        print(f"dashboards-pictures needs {', '.join(missing)} on the PATH", file=sys.stderr)
        return 1
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    file = BUILD / "found.json"
    if not options.redraw:
        BUILD.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asyncio.run(gather())))
    found = json.loads(file.read_text("utf-8"))
    for name, board in found.items():
        # As it is now; what was found belongs to the panels' ids.
        board["dashboard"] = json.loads((DASHBOARDS / f"{name}.json").read_text("utf-8"))
    report(found)
    for name, board in found.items():
        if options.only in (None, name):
            path = PICTURES / f"{name}.png"
            draw(board, path, BUILD)
            say(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
