"""What a fault is tried on: the fleet, jobs that come all the time, and the Prometheus that watches."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as Prometheus tells it."""

    name: str
    labels: str
    """The values of its labels, but for the name and the severity."""
    firing: bool
    """Whether it fires; else its expression holds, and its time has not passed."""


@dataclass(slots=True)
class Bench:
    """The parts, and what was seen of the alerts."""

    fleet: Fleet
    prometheus: httpx.AsyncClient
    folder: Path
    say: Callable[[str], None]
    accepted: int = 0
    """Jobs that the gateway has taken on."""

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

    async def running(self, job_id: str) -> None:
        """Wait until the job has been sent to a provider. Raises TimeoutError after ten seconds."""
        async with asyncio.timeout(10):
            # The API offers no wait for this state.
            while (await self.fleet.api.get(f"/api/jobs/{job_id}")).json()["status"] == "queued":  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def jobs(self) -> AsyncIterator[None]:
        """Ask for jobs for the length of the block, in turn for each provider first. Raises what the asking raises."""

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
            with suppress(asyncio.CancelledError):
                await asking

    async def budget(self, usd: str) -> None:
        """Set the budget for a day."""
        text = (RULES / BUDGET).read_text("utf-8").replace("vector(Inf)", f"vector({usd})")
        (self.folder / BUDGET).write_text(shortened(text), "utf-8")
        (await self.prometheus.post("/-/reload")).raise_for_status()

    async def alerts(self) -> list[Alert]:
        """The alerts that fire, and those that soon will."""
        answer = (await self.prometheus.get("/api/v1/alerts")).raise_for_status()
        return [_alert(each["labels"], firing=each["state"] == "firing") for each in answer.json()["data"]["alerts"]]


def _alert(labels: Mapping[str, str], *, firing: bool) -> Alert:
    others = [value for name, value in labels.items() if name not in ("alertname", "severity")]
    return Alert(labels["alertname"], ", ".join(others), firing)


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
