"""What the parts of a running service share: when to stop, what must stay alive, what must be ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from chassis.observability.telemetry import Telemetry

Check = Callable[[], str | None]
"""Looks at one part of the process; returns what is wrong with it, or None."""


@dataclass(frozen=True, slots=True)
class Consuming:
    """How this process's consumers behave towards the cluster."""

    session_timeout_s: float = 30
    """Seconds without a heartbeat after which Kafka gives the process's partitions to another."""
    fetch_wait_ms: int = 500
    """How long a broker may hold a fetch that finds nothing."""


class Runtime:
    """What a running service's parts share: when to stop, what must stay alive, what must be ready."""

    def __init__(self, service: str, telemetry: Telemetry, *, consuming: Consuming | None = None) -> None:
        self.service = service
        self.telemetry = telemetry
        self.consuming = consuming or Consuming()
        self.stopping = asyncio.Event()
        self.failure: str | None = None
        self._vital: list[Check] = []
        self._ready: list[Check] = []
        self._warnings: list[Check] = []
        self.started = False

    def must_live(self, check: Check) -> None:
        """End the process, to be restarted, when `check` finds that a component has failed."""
        self._vital.append(check)

    def must_be_ready(self, check: Check) -> None:
        """Take the process out of service for as long as `check` finds something wrong."""
        self._ready.append(check)

    def warns(self, check: Check) -> None:
        """Say in `/readyz` what `check` finds wrong, of a process that can do its work all the same."""
        self._warnings.append(check)

    def warnings(self) -> list[str]:
        """The messages of all checks that warn."""
        return [why for check in self._warnings if (why := check())]

    def unhealthy(self) -> str | None:
        """The message of the first check that found a failed component; None if there is none."""
        return self.failure or next((why for check in self._vital if (why := check())), None)

    def unready(self) -> str | None:
        """Why the process is not ready; None if it is."""
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
        """Wait for `seconds`, or less if the process is told to stop; returns whether to go on."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return True
        return False
