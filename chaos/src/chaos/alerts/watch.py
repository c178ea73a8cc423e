"""The alerts that fire while a fault is tried, from before its beginning until all is calm again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager, suppress
from typing import Final

import httpx

from chaos.alerts.bench import Bench
from chaos.alerts.rules import EVERY_S

CALM_S: Final = 10.0
"""Seconds without an alert after which all is calm."""


class Watch:
    """What Prometheus says of the alerts, asked twice in the time of an evaluation."""

    def __init__(self, bench: Bench, of: str | None = None) -> None:
        """`of`: a label, such as a provider, that an alert has to have; one with other labels is another alert."""
        self._bench = bench
        self._of = of
        self.began = time.monotonic()
        """When the fault was there; alerts are told with the seconds since."""
        self.seen: dict[str, float] = {}
        """Each alert that has fired, with the time at which it was first seen (`time.monotonic`)."""
        self._last = self.began
        self._there: Set[str] = frozenset()
        self._looked = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch for the length of the block. Raises what the watching raises."""
        task = asyncio.create_task(self._look_forever())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def all_of(self, names: Set[str], within_s: float) -> None:
        """Return once all of them have been seen, or after that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._looked:
                await self._looked.wait_for(lambda: names <= self.seen.keys())

    async def calm(self, within_s: float) -> bool:
        """Wait until no alert fires or soon will, and none has for CALM_S seconds; returns whether that was in time."""
        try:
            async with asyncio.timeout(within_s), self._looked:
                await self._looked.wait()
                await self._looked.wait_for(lambda: not self._there and time.monotonic() - self._last > CALM_S)
        except TimeoutError:
            self._bench.say(f"    still there: {', '.join(sorted(self._there))}")
            return False
        return True

    async def _look_forever(self) -> None:
        while True:
            # The next look makes up for one that fails; a Prometheus that is gone tells of no alert that has to fire.
            with suppress(httpx.TransportError):
                await self._look()
            await asyncio.sleep(EVERY_S / 2)

    async def _look(self) -> None:
        alerts = await self._bench.alerts()
        now = time.monotonic()
        for alert in alerts:
            if not alert.firing:
                continue
            self._last = now
            name = alert.name if self._of is None or self._of in alert.labels else f"{alert.name} ({alert.labels})"
            if name not in self.seen:
                self.seen[name] = now
                self._bench.say(f"    {now - self.began:4.0f} s  {name} {alert.labels}")
        self._there = {f"{alert.name} {alert.labels}" for alert in alerts}
        async with self._looked:
            self._looked.notify_all()
