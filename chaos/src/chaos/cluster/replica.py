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
        head = ["-m", "segue_cli"] if crash_at is None else ["-m", "chaos.crash_points", crash_at]
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
