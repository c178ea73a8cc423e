"""What a fault is tried on: the fleet, jobs that come all the time, and the Prometheus that watches."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from chaos.alerts.rules import EVERY_S, FACTOR, shortened
from chaos.cluster.fleet import Fleet, fleet_on
from chaos.cluster.prometheus import PROGRAM, prometheus_on
from chassis.postgres.polled_gauges import EVERY_S as GAUGES_EVERY_S

RULES: Final = Path(__file__).resolve().parents[4] / "deploy" / "prometheus"
BUDGET: Final = "budget.yaml"
SETTINGS: Final = {
    # As short as the rules; the grace is long enough for an attempt to be held.
    "SEGUE_ADAPTER_SILENT_S": "9",
    "SEGUE_SUBMIT_GRACE_S": "75",
    "SEGUE_BREAKER_OPEN_S": "1",
}
CALM_WITHIN_S: Final = 90.0
"""Seconds in which there is no alert, without a fault."""
PAUSE_S: Final = 0.7
ORDERS: Final[Sequence[Sequence[str]]] = (("fal", "replicate"), ("replicate", "fal"))


@dataclass(slots=True)
class Bench:
    """The parts, and what was seen of the alerts."""

    fleet: Fleet
    prometheus: httpx.AsyncClient
    folder: Path
    say: Callable[[str], None]
    accepted: int = 0
    """Jobs that the gateway has taken on."""
    _seen: dict[str, float] = field(default_factory=dict)

    async def faults(self, *rules: Mapping[str, Any]) -> None:
        """Replace the faults of the providers."""
        (await self.fleet.sandbox.put("/faults", json=list(rules))).raise_for_status()

    async def job(self, prompt: str, **fields: Any) -> str | None:
        """Ask for a job; returns its id, or None if the gateway is away or does not take it on."""
        body = {"duration_s": 2, "has_vocals": False, "providers": ["fal", "replicate"], **fields, "prompt": prompt}
        with suppress(httpx.TransportError):
            answer = await self.fleet.api.post("/api/tracks", json=body, timeout=8)
            if answer.status_code == 202:
                self.accepted += 1
                return str(answer.json()["job_id"])
        return None

    @asynccontextmanager
    async def jobs(self) -> AsyncIterator[None]:
        """Ask for jobs for the length of the block, in turn for each provider first."""

        async def ask() -> None:
            async with asyncio.TaskGroup() as tasks:
                for order in itertools.cycle(ORDERS):
                    tasks.create_task(self.job("a warm pad", providers=list(order)))
                    await asyncio.sleep(PAUSE_S)

        asking = asyncio.create_task(ask())
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def budget(self, usd: str) -> None:
        """Set the budget for a day."""
        text = (RULES / BUDGET).read_text("utf-8").replace("vector(Inf)", f"vector({usd})")
        (self.folder / BUDGET).write_text(shortened(text), "utf-8")
        (await self.prometheus.post("/-/reload")).raise_for_status()

    # The alerts.

    async def firing(self, *, pending: bool = False) -> dict[str, str]:
        """The alerts that fire now, with their labels as text; with `pending` also those that soon will."""
        answer = (await self.prometheus.get("/api/v1/alerts")).raise_for_status()
        return {
            alert["labels"]["alertname"]: ", ".join(
                value for name, value in alert["labels"].items() if name not in ("alertname", "severity")
            )
            for alert in answer.json()["data"]["alerts"]
            if alert["state"] == "firing" or pending
        }

    async def watch(
        self, began: float, seen: dict[str, float], within_s: float, expected: Set[str] | None = None
    ) -> None:
        """Add each alert that fires to `seen`, with the seconds since `began` after which it was first seen.

        For `within_s` seconds, or until all that are expected have been seen.
        """
        until = time.monotonic() + within_s
        while time.monotonic() < until and (expected is None or not expected <= seen.keys()):
            for name, labels in (await self.firing()).items():
                if name not in seen:
                    seen[name] = time.monotonic() - began
                    self.say(f"    {seen[name]:4.0f} s  {name} {labels}")
            await asyncio.sleep(EVERY_S / 2)

    async def quiet(self, within_s: float) -> tuple[bool, dict[str, float]]:
        """Wait until no alert fires or soon will; returns whether that was so in time, and what fired meanwhile."""
        began, seen = time.monotonic(), dict[str, float]()
        while left := await self.firing(pending=True):
            if (now := time.monotonic() - began) > within_s:
                self.say(f"    still there: {left}")
                return False, seen
            for name, labels in (await self.firing()).items():
                if name not in seen:
                    seen[name] = now
                    self.say(f"    {now:4.0f} s after it  {name} {labels}")
            await asyncio.sleep(EVERY_S)
        return True, seen


def say(line: str) -> None:
    """Print one line with the time, and flush it."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


@asynccontextmanager
async def bench_on(folder: Path) -> AsyncIterator[Bench]:
    """Start everything; jobs come until the end of the block.

    Ends the process with one line if Prometheus is not installed.
    """
    if shutil.which(PROGRAM) is None:
        sys.exit("alerts need Prometheus on the PATH")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # It logs a lot about brokers that are down.
    say("starting three brokers, PostgreSQL, both providers, and all services")
    async with AsyncExitStack() as opened:
        fleet = await opened.enter_async_context(fleet_on(folder / "fleet", SETTINGS))
        for name in ("rules.yaml", BUDGET):
            (folder / name).write_text(shortened((RULES / name).read_text("utf-8")), "utf-8")
        services: dict[str, list[str]] = {}
        for one in fleet.members:
            services.setdefault(one.service, []).append(one.address)
        rules = [folder / "rules.yaml", folder / BUDGET]
        watching = prometheus_on(folder, services, rules, EVERY_S, lambda line: say(f"prometheus: {line}"))
        bench = Bench(fleet, await opened.enter_async_context(watching), folder, say)
        await opened.enter_async_context(bench.jobs())
        say(f"all are ready; every duration of the rules is divided by {FACTOR}")
        await asyncio.sleep(GAUGES_EVERY_S)  # Then every gauge that is read from PostgreSQL has a value.
        yield bench
