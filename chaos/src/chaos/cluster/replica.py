"""One process of one service: started, killed, frozen and waited for."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import httpx

from chaos.cluster.disturbances import ProcessEnd
from contracts.topics import ServiceName
from segue_cli.local.ports import LOOPBACK, free_port
from segue_cli.local.process import Child, child
from segue_cli.stack.components import log_to
from segue_cli.stack.environment import without_settings, write_env

if TYPE_CHECKING:
    from chaos.cluster.fleet import Fleet

READY_WITHIN_S = 60.0
DRAIN_S = 30.0
POLL_S = 0.1


class Replica:
    """One replica of a service, with a port and a log file of its own that stay the same over its restarts."""

    def __init__(self, fleet: Fleet, service: ServiceName, name: str) -> None:
        self.service, self.name = service, name
        self.port = free_port()
        self.address = f"http://{LOOPBACK}:{self.port}"
        self.log = fleet.folder / "logs" / f"{name}.log"
        self.wanted = False
        """Whether it should run; `Fleet.supervised` restarts it if it has exited."""
        self.frozen = False
        self.python = sys.executable
        """The interpreter of the installation that its processes are of, from its next start on."""
        self.environment: dict[str, str] = {}
        """Variables of its processes beside its settings, from its next start on."""
        self._fleet = fleet
        self._watch: asyncio.Task[None] | None = None
        self._process: Child | None = None
        self._stack = AsyncExitStack()

    @property
    def pid(self) -> int:
        """Its process id; raises RuntimeError before its first start."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether its process exists, also if it is frozen."""
        return self._process is not None and self._process.returncode is None

    @property
    def _child(self) -> Child:
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process

    async def start(self, crash_at: str | None = None, **settings: str) -> None:
        """Start it like `segue run`, with `settings` added to the fleet's for this process only; does not wait.

        With `crash_at` it kills itself at that crash point.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        await self._stack.aclose()
        env_file = self._fleet.folder / f"{self.name}.env"
        write_env(env_file, {**self._fleet.env, **settings})
        tail = ["run", self.service, "--port", str(self.port), "--env-file", str(env_file)]
        head = ["-m", "segue_cli"] if crash_at is None else ["-m", "chaos.crash_points", crash_at]
        take, close = log_to(self.log)
        self._stack.callback(close)
        started = child(
            [self.python, *head, *tail],
            name=self.name,
            env={**without_settings(os.environ), **self.environment},
            cwd=str(self._fleet.folder),
            on_line=take,
            grace_s=DRAIN_S,
        )
        self._process = await self._stack.enter_async_context(started)
        self.wanted, self.frozen = True, False
        self._fleet.disturbances.end(self.name)
        if crash_at is not None:
            self._fleet.disturbances.begin(f"crash point {crash_at}", self.name, self.service)
        # What a crash point does to its process is what the row wants.
        self._watch = asyncio.create_task(self._note_end(self._process, expected=crash_at is not None))

    async def kill(self) -> None:
        """Send SIGKILL, also if it is frozen, and reap it; does nothing if it is gone."""
        self.wanted = False
        if self.running:
            self._signalled("SIGKILL")
            await self._child.stop(signal.SIGKILL)

    async def term(self) -> float:
        """Send SIGTERM; returns the seconds until it ended. It is killed after `DRAIN_S`."""
        self.wanted = False
        began = time.monotonic()
        if self.running:
            self._signalled("SIGTERM")
            self.cont()
            await self._child.stop(signal.SIGTERM, grace_s=DRAIN_S)
        return time.monotonic() - began

    def stop(self) -> None:
        """Send SIGSTOP: it keeps its leases and connections, and does nothing."""
        self._signalled("SIGSTOP")
        self.frozen = True
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Send SIGCONT; does nothing if it was not stopped or is gone."""
        if self.frozen:
            self._fleet.disturbances.end(self.name)
        self.frozen = False
        self._signal(signal.SIGCONT)

    async def wait(self) -> int:
        """Wait until it ends by itself; returns its exit code, negative for a signal."""
        code = await self._child.wait()
        self.wanted = False
        return code

    @property
    def returncode(self) -> int | None:
        """The exit code of its last process; None while it runs."""
        return self._child.returncode

    async def ready(self) -> None:
        """Wait until it is ready. Raises AssertionError if it exits before, or after a minute."""
        deadline = time.monotonic() + READY_WITHIN_S
        while not await self.is_ready():
            assert self.running, f"{self.name} ended with {self._child.returncode} before it was ready: see {self.log}"
            assert time.monotonic() < deadline, f"{self.name} was not ready within {READY_WITHIN_S:.0f} s"
            await asyncio.sleep(POLL_S)

    async def is_ready(self) -> bool:
        """Whether it is ready now."""
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

    async def _note_end(self, process: Child, *, expected: bool) -> None:
        code = await process.wait()
        if self.wanted and process is self._process and not expected:
            self._fleet.process_ends.append(ProcessEnd(time.time(), self.name, self.service, code))
            self._fleet.disturbances.begin(f"exit {code}", self.name, self.service)

    def _signalled(self, name: str) -> None:
        self._fleet.tally[f"{name} {self.service}"] += 1
        self._fleet.disturbances.begin(name, self.name, self.service)

    def _signal(self, sig: signal.Signals) -> None:
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)
