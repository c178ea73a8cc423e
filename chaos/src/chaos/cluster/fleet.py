"""All services with their replicas on three brokers, and control of each process."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from chaos.cluster.brokers import Brokers, brokers_on
from chaos.cluster.disks import BROKER, DISKS, POSTGRES, free_disks, small_disk
from chaos.cluster.disturbances import Disturbances, ProcessEnd
from chaos.cluster.environment import catalogue_in, database_on, providers_on
from chaos.cluster.replica import POLL_S, Replica
from chaos.cluster.scale import BREAKER_OPEN_S, SHORT, START_LIMIT_S, Scale
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import ADAPTERS, SERVICES, ServiceName
from segue_cli.local.postgres import LocalPostgres
from segue_cli.stack.topics import ensure_topics

REPLICAS = {"gateway": 1, "log-sink": 1}
"""The number of replicas of each service; two if not listed."""
SETTINGS = {
    "MUSIC_PROVIDER": "fal",
    "SEGUE_KAFKA_SESSION_TIMEOUT_S": "6",
    "SEGUE_KAFKA_FETCH_WAIT_MS": "100",
    "SEGUE_SUBMIT_TIMEOUT_S": "4",
    "SEGUE_START_DEADLINE_S": str(START_LIMIT_S),
    "SEGUE_SUBMIT_GRACE_S": "15",
    "SEGUE_JOB_DEADLINE_S": "180",
    "SEGUE_BREAKER_OPEN_S": str(BREAKER_OPEN_S),
    "SEGUE_CALLBACK_SECRET": "0123456789abcdef0123456789abcdef",
}
SANDBOX_SETTINGS = {
    "queue_s": 0.05,
    "run_s": 0.2,
    "fal_webhook_retries_s": [1, 2, 4, 8],
    "replicate_webhook_retries_s": [1, 2, 4, 8],
}
RESTORED_WITHIN_S = 120.0
BREAKERS_OPEN_UNTIL = """
SELECT CASE state WHEN 'open' THEN open_until ELSE probe_until END AS until FROM {} WHERE state <> 'closed'
"""


class Fleet:
    """All processes of a run; `tally` counts each signal that was sent, by name and target."""

    def __init__(
        self,
        folder: Path,
        env: dict[str, str],
        brokers: Brokers,
        database: LocalPostgres,
        clients: Sequence[httpx.AsyncClient],
        tally: Counter[str],
        scale: Scale,
    ) -> None:
        self.folder, self.env, self.brokers, self.postgres, self.tally = folder, env, brokers, database, tally
        self.pages, self.sandbox = clients
        self.scale = scale
        self.api: httpx.AsyncClient
        self.bills_file: Path
        self.earlier_python: str | None = None
        """The interpreter of an installation of an earlier release."""
        self.before_deletion: Callable[[], Awaitable[object]]
        """Reads what the evidence needs of the topics; to be called before records are deleted."""
        self.disks: Mapping[str, Path] = {}
        """The small disks, by their names in `DISKS`; none unless the fleet was started with them."""
        self.members: list[Replica] = []
        self.removed: list[Replica] = []
        """Replicas that were members once; their logs are evidence as well."""
        self.disturbances = Disturbances()
        self.process_ends: list[ProcessEnd] = []
        """The processes that ended by themselves, in order."""
        self._named: Counter[str] = Counter()

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each replica that runs, by its name."""
        return {one.name: one.pid for one in self.members if one.running}

    @property
    def logged(self) -> Sequence[Replica]:
        """All replicas that have a log, including those that were removed."""
        return [*self.members, *self.removed]

    def replicas(self, service: ServiceName) -> list[Replica]:
        """The replicas of one service, including those that are down."""
        return [one for one in self.members if one.service == service]

    def replica(self, name: str) -> Replica:
        """The replica with this name, for example `fal-adapter-1`."""
        return next(one for one in self.members if one.name == name)

    def add(self, service: ServiceName) -> Replica:
        """Add a replica; it is not started yet."""
        self._named[service] += 1
        one = Replica(self, service, f"{service}-{self._named[service]}")
        self.members.append(one)
        return one

    async def remove(self, replica: Replica) -> None:
        """Stop a replica and remove it."""
        await replica.term()
        await replica.close()
        self.disturbances.end(replica.name)
        self.members.remove(replica)
        self.removed.append(replica)

    async def faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Add fault rules for the providers after the active ones."""
        (await self.sandbox.post("/faults", json=list(rules))).raise_for_status()

    async def reset_providers(self) -> None:
        """Remove all fault rules, and wait until no breaker is open because of them. Raises AssertionError."""
        (await self.sandbox.put("/faults", json=[])).raise_for_status()
        deadline = time.monotonic() + RESTORED_WITHIN_S
        while waiting := await self._open_breakers():
            assert time.monotonic() < deadline, (
                f"these breakers did not close within {RESTORED_WITHIN_S:.0f} s: {waiting}"
            )
            await asyncio.sleep(POLL_S)

    async def restore(self) -> None:
        """Start every broker, the database and every replica, and wait until all are ready. Raises AssertionError."""
        free_disks(self.disks.values())
        for broker in self.brokers:
            broker.way.heal()
        await asyncio.gather(self.brokers.restore(), self.postgres.start())
        deadline = time.monotonic() + RESTORED_WITHIN_S
        while unready := await self._unready():
            waiting = ", ".join(one.name for one in unready)
            assert time.monotonic() < deadline, f"not ready within {RESTORED_WITHIN_S:.0f} s: {waiting}"
            await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def supervised(self, but: Container[Replica] = ()) -> AsyncIterator[None]:
        """Restart every replica that exits without being stopped, as a container orchestrator does; none of `but`."""

        async def watch() -> None:
            while True:
                for one in self.members:
                    if one.wanted and not one.running and one not in but:
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

    async def _open_breakers(self) -> list[str]:
        connection = await asyncpg.connect(self.env["DATABASE_URL"])
        try:
            tables = [f"{adapter.replace('-', '_')}.breakers" for adapter in ADAPTERS]
            rows = [row for table in tables for row in await connection.fetch(BREAKERS_OPEN_UNTIL.format(table))]
        finally:
            await connection.close()
        now = datetime.now(UTC)
        return [row["until"].isoformat() for row in rows if row["until"] is not None and row["until"] > now]


@asynccontextmanager
async def fleet_on(
    folder: Path, settings: Mapping[str, str], scale: Scale = SHORT, *, small_disks: bool = False
) -> AsyncIterator[Fleet]:
    """Run the whole system for the length of the block, which begins when every replica is ready.

    With `small_disks`, PostgreSQL and Kafka have a disk of their own each, which a row may fill; that takes root.
    """
    (folder / "logs").mkdir(parents=True)
    tally: Counter[str] = Counter()

    def count(what: str) -> None:
        tally[what] += 1

    async with AsyncExitStack() as stack:
        disks = {name: await small_disk(name, stack) for name in DISKS} if small_disks else {}
        if disks:
            (folder / "kafka").mkdir()
            (folder / "kafka" / BROKER).symlink_to(disks[BROKER])
        brokers = await stack.enter_async_context(brokers_on(count, folder=folder / "kafka" if disks else None))
        database = await database_on(folder, stack, disks.get(POSTGRES))
        env = {**SETTINGS, "SEGUE_CATALOGUE": str(catalogue_in(folder)), "DATABASE_URL": database.url}
        env |= {"KAFKA_BOOTSTRAP_SERVERS": brokers.servers, "ARTIFACT_STORE_URL": (folder / "artifacts").as_uri()}
        given, sandbox_url, bills = await providers_on(folder, stack)
        env |= given
        pages = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=2))
        sandbox = await stack.enter_async_context(httpx.AsyncClient(base_url=sandbox_url, trust_env=False, timeout=30))
        (await sandbox.patch("/settings", json=SANDBOX_SETTINGS)).raise_for_status()
        await ensure_topics(KafkaCluster(brokers.servers))
        fleet = Fleet(folder, env, brokers, database, [pages, sandbox], tally, scale)
        fleet.bills_file, fleet.disks = bills, disks
        stack.push_async_callback(_end_all, fleet)
        for service in SERVICES:
            for _ in range(REPLICAS.get(service, 2)):
                fleet.add(service)
        gateway = fleet.replica("gateway-1").address
        env |= {"SEGUE_PUBLIC_URL": gateway, **settings}
        fleet.api = await stack.enter_async_context(
            httpx.AsyncClient(base_url=gateway, trust_env=False, timeout=30, limits=httpx.Limits(max_connections=100))
        )
        await fleet.restore()
        yield fleet


async def _end_all(fleet: Fleet) -> None:
    await asyncio.gather(*(one.close() for one in fleet.members))
