"""The health pages, on a separate thread and listener with its own limits: other clients cannot block them.

The service's event loop records its state a few times a second; if the loop is blocked, the pages report that.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp

from chassis.http.listener import bind
from chassis.http.server import health_app, serving
from chassis.runtime.dependencies import Seen
from chassis.runtime.runtime import Runtime
from chassis.settings.http_limits import HttpLimits

RECORD_EVERY_S: Final = 0.25
STALE_S: Final = 20.0
"""After this time a loop is blocked, not busy; the watchdog ends the process after twice that."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    unhealthy: str | None
    unready: str | None
    warnings: tuple[str, ...]
    dependencies: Mapping[str, Seen]
    at: float


class Verdict:
    """The last recorded problems of a process, readable from another thread."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.record()

    def record(self) -> None:
        """Record the state; called in the event loop."""
        try:
            unhealthy, unready = self._runtime.unhealthy(), self._runtime.unready()
            warnings, dependencies = tuple(self._runtime.warnings()), self._runtime.dependencies()
        except Exception as error:  # noqa: BLE001 - a check that raises has itself failed
            unhealthy = unready = f"a check of the health pages: {error!r}"
            warnings, dependencies = (), {}
        self._recorded = _Recorded(unhealthy, unready, warnings, dependencies, time.monotonic())

    def unhealthy(self) -> str | None:
        """The first failed component, as text; None if all work."""
        return self._recorded.unhealthy or self._blocked_loop()

    def unready(self) -> str | None:
        """Why the process should get no work now, as text; None if it is ready."""
        return self._recorded.unready or self._blocked_loop()

    def warnings(self) -> tuple[str, ...]:
        """Conditions that an operator should look at, as text."""
        return self._recorded.warnings

    def dependencies(self) -> Mapping[str, Seen]:
        """How everything that the process depends on was last seen, by name."""
        return self._recorded.dependencies

    def _blocked_loop(self) -> str | None:
        age_s = time.monotonic() - self._recorded.at
        return f"the event loop has been blocked for {age_s:.0f} s" if age_s > STALE_S else None


@asynccontextmanager
async def serve_health(
    runtime: Runtime, host: str, port: int, *, limits: HttpLimits, others: ASGIApp | None = None
) -> AsyncIterator[int]:
    """Serve `/livez`, `/readyz` and `/metrics`; yields the port. Raises CannotStart if the address cannot be bound.

    `others` handles all other paths, on the thread of the health pages.
    """
    sock = bind(host, port, "SEGUE_HEALTH_PORT")
    bound: int = sock.getsockname()[1]
    verdict = Verdict(runtime)
    recording = asyncio.create_task(_keep_recording(verdict))
    try:
        async with _served_on_thread(health_app(verdict, others), sock, limits) as thread:
            runtime.must_live(lambda: None if thread.is_alive() else "the thread of the health pages")
            yield bound
    finally:
        recording.cancel()


@asynccontextmanager
async def _served_on_thread(app: ASGIApp, sock: socket.socket, limits: HttpLimits) -> AsyncIterator[threading.Thread]:
    """Serve on a thread with its own event loop."""
    running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        running.set_result((asyncio.get_running_loop(), stop))
        async with serving(app, sock, limits):
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="health", daemon=True)
    thread.start()
    loop, stop = await asyncio.wrap_future(running)
    try:
        yield thread
    finally:
        loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(thread.join)


async def _keep_recording(verdict: Verdict) -> None:
    while True:
        await asyncio.sleep(RECORD_EVERY_S)
        verdict.record()
