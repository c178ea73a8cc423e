"""The state that the components of a running service share: stopping, health checks, readiness checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from chassis.observability.metrics import DEPENDENCY_UP
from chassis.observability.telemetry import Telemetry
from chassis.runtime.dependencies import Dependency, Seen

Check = Callable[[], str | None]
"""Checks one component of the process; returns a message about its fault, or None."""


@dataclass(frozen=True, slots=True)
class Consuming:
    """The settings of this process's consumers."""

    session_timeout_s: float = 8
    """Seconds without a heartbeat after which Kafka gives the process's partitions to another."""
    fetch_wait_ms: int = 500
    """How long a broker may hold an empty fetch, in milliseconds."""


class Runtime:
    """The shared state of a running service."""

    def __init__(self, service: str, telemetry: Telemetry, *, consuming: Consuming | None = None) -> None:
        self.service = service
        self.telemetry = telemetry
        self.consuming = consuming or Consuming()
        self.stopping = asyncio.Event()
        self.failure: str | None = None
        self.member: str | None = None
        """The identity of this process in its consumer group; None: Kafka takes each process for a new member."""
        self._vital: list[Check] = []
        self._ready: list[Check] = []
        self._warnings: list[Check] = []
        self._dependencies: dict[str, Dependency] = {}
        self._parts: dict[str, list[Check]] = {}
        self.started = False

    def must_live(self, check: Check) -> None:
        """Exit the process, so that it is restarted, once `check` reports a failed component."""
        self._vital.append(check)

    def must_be_ready(self, check: Check, *, part: str | None = None) -> None:
        """Report the process as not ready for as long as `check` reports a fault; `part` is shown as a dependency."""
        self._ready.append(check)
        if part is not None:
            self._dependencies.setdefault(part, Dependency())
            self._parts.setdefault(part, []).append(check)

    def depends_on(self, name: str, dependency: Dependency) -> None:
        """Show how `dependency` was last seen in `/readyz` and `/metrics`; the process stays ready."""
        self._dependencies[name] = dependency
        # Asked for at each scrape, perhaps on another thread.
        DEPENDENCY_UP.labels(name).set_function(lambda: 0.0 if dependency.seen.status == "fail" else 1.0)

    def dependencies(self) -> dict[str, Seen]:
        """How everything that the process depends on was last seen, by name."""
        for part, checks in self._parts.items():
            if (why := next((why for check in checks if (why := check())), None)) is None:
                self._dependencies[part].works()
            else:
                self._dependencies[part].fails(why)
        return {name: dependency.seen for name, dependency in self._dependencies.items()}

    def warns(self, check: Check) -> None:
        """Show the message of `check` in `/readyz`; the process stays ready."""
        self._warnings.append(check)

    def warnings(self) -> list[str]:
        """The messages of the checks that were added with `warns`."""
        return [why for check in self._warnings if (why := check())]

    def unhealthy(self) -> str | None:
        """The message about the first failed component; None if there is none."""
        return self.failure or next((why for check in self._vital if (why := check())), None)

    def unready(self) -> str | None:
        """The reason why the process is not ready; None if it is ready."""
        if not self.started:
            return "starting"
        if self.stopping.is_set():
            return "stopping"
        return next((why for check in self._ready if (why := check())), None)

    def fail(self, why: str) -> None:
        """Stop the process as unhealthy."""
        self.failure = self.failure or why
        self.stopping.set()

    async def pause(self, seconds: float) -> bool:
        """Wait for `seconds`, or until the process is stopped; returns False if it is stopping."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return True
        return False
