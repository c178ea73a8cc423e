"""The three brokers: each can be killed, frozen, and started again on its port with its data."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from chaos.cluster.proxy import Proxy
from chassis.kafka.topics import admin
from chassis.settings.kafka.cluster import KafkaCluster
from segue_cli.local.ports import LOOPBACK, free_port
from segue_cli.local.process import Child, child, ready_with
from segue_cli.stack.components import log_to

LAUNCHER = Path(__file__).resolve().parents[4] / "deploy" / "kafka" / "kafka.py"
GONE_WITHIN_S = 10.0
READY_WITHIN_S = 90.0


class Broker:
    """One broker. Its first process is a child of the launcher; later ones are children of this process."""

    def __init__(self, row: Mapping[str, Any], count: Callable[[str], None]) -> None:
        self.name = f"broker-{row['id']}"
        self.id, self.port, self.dir = int(row["id"]), int(row["port"]), Path(row["dir"])
        self.pid = int(row["pid"])
        self.way = Proxy("127.0.0.1", int(row["behind"]))
        """What is between it and the clients that begin at `Brokers.servers_behind`."""
        self._argv: list[str] = list(row["start"])
        self._count = count
        self._ours: Child | None = None
        self._stack = AsyncExitStack()
        self._up = True

    @property
    def logs(self) -> tuple[Path, Path]:
        """The log that its first process writes, and that of all later ones."""
        return self.dir / "broker.log", self.dir.parent / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether its process exists."""
        if not self._up:
            return False
        return Path(f"/proc/{self.pid}").exists() if self._ours is None else self._ours.returncode is None

    async def kill(self) -> None:
        """Send SIGKILL, and wait until the process is gone."""
        self._count("SIGKILL broker")
        await self._end(signal.SIGKILL)

    async def term(self) -> None:
        """Send SIGTERM, on which it moves its partition leaders and stops; wait until the process is gone."""
        self._count("SIGTERM broker")
        await self._end(signal.SIGTERM)

    def stop(self) -> None:
        """Send SIGSTOP."""
        self._count("SIGSTOP broker")
        os.kill(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        """Send SIGCONT."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    async def start(self) -> None:
        """Start it again with its port and data; does nothing while it runs. Does not wait until it is ready."""
        if self.running:
            self.cont()
            return
        await self._stack.aclose()
        take, close = log_to(self.logs[1])
        self._stack.callback(close)
        self._ours = await self._stack.enter_async_context(child(self._argv, name=self.name, on_line=take))
        self.pid, self._up = self._ours.pid, True

    async def close(self) -> None:
        """End the processes that were started here."""
        if self._ours is not None:
            self.cont()
            await self._ours.stop(signal.SIGKILL)
        await self._stack.aclose()

    async def _end(self, sig: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, sig)
        self.cont()
        if self._ours is not None:
            await self._ours.stop(sig, grace_s=GONE_WITHIN_S)
        else:
            await self._gone()
        self._up = False

    async def _gone(self) -> None:
        deadline = asyncio.get_running_loop().time() + GONE_WITHIN_S
        while self.running:  # The launcher reaps it, and reports nothing.
            if asyncio.get_running_loop().time() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            await asyncio.sleep(0.05)


class Brokers:
    """All brokers."""

    def __init__(self, servers: str, servers_behind: str, members: list[Broker]) -> None:
        self.servers, self.servers_behind = servers, servers_behind
        self.members = members

    def __iter__(self) -> Iterator[Broker]:
        return iter(self.members)

    def __getitem__(self, n: int) -> Broker:
        return self.members[n]

    def __len__(self) -> int:
        return len(self.members)

    async def known(self) -> int:
        """The number of brokers that the cluster counts as up; 0 while it does not answer."""
        try:
            async with asyncio.timeout(5), admin(KafkaCluster(self.servers)) as client:
                return len((await client.describe_cluster())["brokers"])
        except (KafkaError, OSError, TimeoutError):
            return 0

    def keep_logs(self, folder: Path) -> None:
        """Copy what each has logged to `broker-<id>.log` in this folder, that of its first process first."""
        for one in self.members:
            with (folder / f"{one.name}.log").open("wb") as kept:
                for log in one.logs:
                    kept.write(log.read_bytes() if log.exists() else b"")

    async def restore(self) -> None:
        """Start the brokers that are down, and wait until the cluster counts all of them. Raises TimeoutError."""
        for one in self.members:
            await one.start()
        async with asyncio.timeout(READY_WITHIN_S):
            while await self.known() < len(self.members):  # noqa: ASYNC110 - there is no notification
                await asyncio.sleep(0.2)


@asynccontextmanager
async def brokers_on(
    count: Callable[[str], None], how_many: int = 3, folder: Path | None = None
) -> AsyncIterator[Brokers]:
    """A real Apache Kafka in this folder, or in a temporary one; `count` is called with every signal to a broker."""
    behind = [free_port() for _ in range(how_many)]
    argv = [sys.executable, str(LAUNCHER), "--brokers", str(how_many), *(f"--behind={port}" for port in behind)]
    argv += [] if folder is None else ["--dir", str(folder)]
    async with child(argv, name="kafka", ready=ready_with("brokers"), ready_within_s=180) as launcher:
        members = [Broker(row, count) for row in launcher.ready["brokers"]]
        servers_behind = ",".join(f"{LOOPBACK}:{port}" for port in behind)
        async with AsyncExitStack() as stack:
            for one, port in zip(members, behind, strict=True):
                stack.push_async_callback(one.close)
                await stack.enter_async_context(one.way.running(port))
            yield Brokers(launcher.ready["bootstrap_servers"], servers_behind, members)
