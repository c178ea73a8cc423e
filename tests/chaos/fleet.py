"""All of Segue with spares, on three brokers, and a hand on every process of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from brokers import Brokers, brokers_on
from contracts.topics import ADAPTERS, SERVICES, ServiceName
from extent import SHORT, Extent
from ground import catalogue_in, database_on, providers_on
from segue_cli.local.ports import LOOPBACK, free_port
from segue_cli.local.postgres import LocalPostgres
from segue_cli.local.process import Child, child
from segue_cli.stack.components import log_to
from segue_cli.stack.environment import without_settings, write_env
from segue_cli.stack.topics import ensure_topics

HERE = Path(__file__).parent
SPARES = {"gateway": 1, "log-sink": 1}
"""How many of each service run; two where nothing is said."""
SETTINGS = {
    "MUSIC_PROVIDER": "fal",
    "SEGUE_KAFKA_SESSION_TIMEOUT_S": "6",
    "SEGUE_KAFKA_FETCH_WAIT_MS": "100",
    "SEGUE_SUBMIT_TIMEOUT_S": "2",
    "SEGUE_START_DEADLINE_S": "6",
    "SEGUE_SUBMIT_GRACE_S": "15",
    "SEGUE_JOB_DEADLINE_S": "180",
    "SEGUE_BREAKER_OPEN_S": "0.2",
    "SEGUE_CALLBACK_SECRET": "0123456789abcdef0123456789abcdef",
}
SANDBOX_SETTINGS = {
    "queue_s": 0.05,
    "run_s": 0.2,
    "fal_webhook_retries_s": [1, 2, 4, 8],
    "replicate_webhook_retries_s": [1, 2, 4, 8],
}
READY_WITHIN_S = 60.0
WHOLE_WITHIN_S = 120.0
DRAIN_S = 30.0
POLL_S = 0.1
SHUT_UNTIL = (
    "SELECT body ->> 'open_until' AS opens, body ->> 'probe_until' AS probed, body ->> 'state' AS state FROM {}"
)


class Replica:
    """One process of one service, on a port and with a log of its own, through all its lives."""

    def __init__(self, fleet: Fleet, service: ServiceName, name: str) -> None:
        self.service, self.name = service, name
        self.port = free_port()
        self.address = f"http://{LOOPBACK}:{self.port}"
        self.log = fleet.folder / "logs" / f"{name}.log"
        self.wanted = False
        """Whether it is meant to run: an end that nobody asked for is made good by `Fleet.supervised`."""
        self.frozen = False
        self._fleet = fleet
        self._process: Child | None = None
        self._stack = AsyncExitStack()

    @property
    def pid(self) -> int:
        """Its process id; raises RuntimeError before its first start."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has a living process, be it frozen."""
        return self._process is not None and self._process.returncode is None

    @property
    def _child(self) -> Child:
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process

    async def start(self, crash_at: str | None = None, **settings: str) -> None:
        """Start it as `segue run` does, with `settings` over the fleet's for this life; does not wait for it.

        With `crash_at` it dies by its own SIGKILL at that point.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        await self._stack.aclose()
        env_file = self._fleet.folder / f"{self.name}.env"
        write_env(env_file, {**self._fleet.env, **settings})
        tail = ["run", self.service, "--port", str(self.port), "--env-file", str(env_file)]
        head = ["-m", "segue_cli"] if crash_at is None else [str(HERE / "crash_points.py"), crash_at]
        take, close = log_to(self.log)
        self._stack.callback(close)
        started = child(
            [sys.executable, *head, *tail],
            name=self.name,
            env=without_settings(os.environ),
            cwd=str(self._fleet.folder),
            on_line=take,
            grace_s=DRAIN_S,
        )
        self._process = await self._stack.enter_async_context(started)
        self.wanted, self.frozen = True, False

    async def kill(self) -> None:
        """SIGKILL it, frozen or not, and reap it; harmless when it is gone."""
        self.wanted = False
        if self.running:
            self._fleet.tally[f"SIGKILL {self.service}"] += 1
            await self._child.stop(signal.SIGKILL)

    async def term(self) -> float:
        """SIGTERM it; returns the seconds that it took to end. It is killed after `DRAIN_S`."""
        self.wanted = False
        began = time.monotonic()
        if self.running:
            self._fleet.tally[f"SIGTERM {self.service}"] += 1
            self.cont()
            await self._child.stop(signal.SIGTERM, grace_s=DRAIN_S)
        return time.monotonic() - began

    def stop(self) -> None:
        """SIGSTOP: it holds what it holds, and does nothing."""
        self._fleet.tally[f"SIGSTOP {self.service}"] += 1
        self.frozen = True
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT; harmless when it was not stopped or is gone."""
        self.frozen = False
        self._signal(signal.SIGCONT)

    async def wait(self) -> int:
        """Its exit code, once it has ended by itself; minus the signal's number where a signal ended it."""
        code = await self._child.wait()
        self.wanted = False
        return code

    @property
    def returncode(self) -> int | None:
        """How its last life ended; None while it lives."""
        return self._child.returncode

    async def ready(self) -> None:
        """Wait until it says that it is ready. Raises AssertionError where it ends first, or takes over a minute."""
        deadline = time.monotonic() + READY_WITHIN_S
        while not await self.is_ready():
            assert self.running, f"{self.name} ended with {self._child.returncode} before it was ready: see {self.log}"
            assert time.monotonic() < deadline, f"{self.name} was not ready within {READY_WITHIN_S:.0f} s"
            await asyncio.sleep(POLL_S)

    async def is_ready(self) -> bool:
        """Whether it says so now."""
        try:
            return (await self._fleet.pages.get(f"{self.address}/readyz")).is_success
        except httpx.HTTPError:
            return False

    async def close(self) -> None:
        """End it for good."""
        self.wanted = False
        if self.running:
            self.cont()
            await self._child.stop(signal.SIGTERM, grace_s=5)
        await self._stack.aclose()

    def _signal(self, sig: signal.Signals) -> None:
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)


class Fleet:
    """Everything that runs; `tally` counts each signal that was sent, by name and target."""

    def __init__(
        self,
        folder: Path,
        env: dict[str, str],
        brokers: Brokers,
        database: LocalPostgres,
        clients: Sequence[httpx.AsyncClient],
        tally: Counter[str],
        extent: Extent,
    ) -> None:
        self.folder, self.env, self.brokers, self.postgres, self.tally = folder, env, brokers, database, tally
        self.pages, self.sandbox = clients
        self.extent = extent
        self.api: httpx.AsyncClient
        self.bills_file: Path
        self.members: list[Replica] = []
        self._named: Counter[str] = Counter()

    def replicas(self, service: ServiceName) -> list[Replica]:
        """The replicas of one service, those that are down too."""
        return [one for one in self.members if one.service == service]

    def replica(self, name: str) -> Replica:
        """The replica of this name, as in `fal-adapter-1`."""
        return next(one for one in self.members if one.name == name)

    def add(self, service: ServiceName) -> Replica:
        """One replica more; it is not started yet."""
        self._named[service] += 1
        one = Replica(self, service, f"{service}-{self._named[service]}")
        self.members.append(one)
        return one

    async def remove(self, replica: Replica) -> None:
        """One replica fewer: it is told to stop, and is no part of the fleet any more."""
        await replica.term()
        await replica.close()
        self.members.remove(replica)

    async def faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Add rules by which the providers misbehave, behind those in force."""
        (await self.sandbox.post("/faults", json=list(rules))).raise_for_status()

    async def well(self) -> None:
        """Have both providers behave, and wait until no gate turns attempts away because they did not."""
        (await self.sandbox.put("/faults", json=[])).raise_for_status()
        deadline = time.monotonic() + WHOLE_WITHIN_S
        while shut := await self._shut_gates():
            assert time.monotonic() < deadline, f"these gates did not open within {WHOLE_WITHIN_S:.0f} s: {shut}"
            await asyncio.sleep(POLL_S)

    async def whole(self) -> None:
        """Bring every broker, the database and every replica back up, and wait until all are ready."""
        await asyncio.gather(self.brokers.whole(), self.postgres.start())
        deadline = time.monotonic() + WHOLE_WITHIN_S
        while unready := await self._unready():
            waiting = ", ".join(one.name for one in unready)
            assert time.monotonic() < deadline, f"not ready within {WHOLE_WITHIN_S:.0f} s: {waiting}"
            await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """Start again whatever ends without being told to, as an orchestrator of containers would."""

        async def watch() -> None:
            while True:
                for one in self.members:
                    if one.wanted and not one.running:
                        self.tally[f"exit {one.returncode} {one.service}"] += 1
                        await one.start()
                await asyncio.sleep(0.5)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _unready(self) -> list[Replica]:
        for one in self.members:
            one.cont()
            if not one.running:
                await one.start()
        ready = await asyncio.gather(*(one.is_ready() for one in self.members))
        return [one for one, is_ready in zip(self.members, ready, strict=True) if not is_ready]

    async def _shut_gates(self) -> list[str]:
        connection = await asyncpg.connect(self.env["DATABASE_URL"])
        try:
            tables = [f"{adapter.replace('-', '_')}.gates" for adapter in ADAPTERS]
            rows = [row for table in tables for row in await connection.fetch(SHUT_UNTIL.format(table))]
        finally:
            await connection.close()
        now = datetime.now(UTC)
        times = [row["opens"] if row["state"] == "open" else row["probed"] for row in rows if row["state"] != "closed"]
        return [at for at in times if at is not None and datetime.fromisoformat(at) > now]


@asynccontextmanager
async def fleet_on(folder: Path, settings: Mapping[str, str], extent: Extent = SHORT) -> AsyncIterator[Fleet]:
    """Run all of it for the length of the block, which begins when every replica is ready."""
    (folder / "logs").mkdir(parents=True)
    tally: Counter[str] = Counter()

    def count(what: str) -> None:
        tally[what] += 1

    async with AsyncExitStack() as stack:
        brokers = await stack.enter_async_context(brokers_on(count))
        database = await database_on(folder, stack)
        env = {**SETTINGS, "SEGUE_CATALOGUE": str(catalogue_in(folder)), "DATABASE_URL": database.url}
        env |= {"KAFKA_BOOTSTRAP_SERVERS": brokers.servers, "ARTIFACT_STORE_URL": (folder / "artifacts").as_uri()}
        given, sandbox_url, bills = await providers_on(folder, stack)
        env |= given
        pages = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=2))
        sandbox = await stack.enter_async_context(httpx.AsyncClient(base_url=sandbox_url, trust_env=False, timeout=30))
        (await sandbox.patch("/settings", json=SANDBOX_SETTINGS)).raise_for_status()
        await ensure_topics(brokers.servers)
        fleet = Fleet(folder, env, brokers, database, [pages, sandbox], tally, extent)
        fleet.bills_file = bills
        stack.push_async_callback(_end_all, fleet)
        for service in SERVICES:
            for _ in range(SPARES.get(service, 2)):
                fleet.add(service)
        gateway = fleet.replica("gateway-1").address
        env |= {"SEGUE_PUBLIC_URL": gateway, **settings}
        fleet.api = await stack.enter_async_context(
            httpx.AsyncClient(base_url=gateway, trust_env=False, timeout=30, limits=httpx.Limits(max_connections=100))
        )
        await fleet.whole()
        yield fleet


async def _end_all(fleet: Fleet) -> None:
    await asyncio.gather(*(one.close() for one in fleet.members))
