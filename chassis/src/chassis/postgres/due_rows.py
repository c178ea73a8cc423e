"""Due rows: claims rows of a table when they are due, or at once when another part of the process asks for it.

Any number of replicas may claim from the same table. What one of them has locked, the others skip and ask for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final

from chassis.observability.log_events import PostgresEvent
from chassis.observability.logs import get_logger
from chassis.postgres.pool import TRANSIENT
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime

LONGEST_SLEEP_S: Final = 5.0
"""Rows that another replica has written become due without a wake-up here."""
LOCKED_S: Final = 0.1
RETRY_S: Final = 0.5
STALL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one pass over the table has found."""

    some: bool
    """Whether any row was claimed."""
    next_s: float | None
    """Seconds until the next row is due, 0 or less where one is due already; None if none waits."""

    @property
    def pause_s(self) -> float:
        """Seconds until the next pass, where nobody asks for one before."""
        if self.next_s is None:
            return LONGEST_SLEEP_S
        # What is due and was not claimed is locked by another replica: no reason to ask for it without a pause.
        return min(LONGEST_SLEEP_S, max(0.0 if self.some else LOCKED_S, self.next_s))


class DueRows:
    """The loop over a table's due rows."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        """`name` is for logs and `/livez`."""
        self._runtime = runtime
        self._name = name
        self._wake = asyncio.Event()
        self._closing = False
        self._turned_at = monotonic()
        self._log = get_logger("chassis.postgres.due_rows").bind(loop=name)

    def wake(self) -> None:
        """Look for due rows now."""
        self._wake.set()

    @asynccontextmanager
    async def running(self, claim: Callable[[], Awaitable[Claimed]]) -> AsyncIterator[None]:
        """Claim due rows for as long as the block lasts; on leaving, let the pass that is under way end.

        `claim` makes one pass, in less than 60 s.
        """
        self._turned_at = monotonic()
        self._runtime.must_live(self._stalled)
        # Asked to end rather than cancelled: a claim cut off at its commit would be a paid request that nobody sends.
        async with background(self._runtime, self._name, self._run(claim), finish=self._close):
            yield

    def _close(self) -> None:
        self._closing = True
        self._wake.set()

    async def _run(self, claim: Callable[[], Awaitable[Claimed]]) -> None:
        while not self._closing:
            self._wake.clear()
            self._turned_at = monotonic()
            try:
                pause_s = (await claim()).pause_s
            except TRANSIENT as error:
                self._log.warning(PostgresEvent.DUE_ROWS_POSTPONED, error=repr(error))
                pause_s = RETRY_S
            await self._sleep(pause_s)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _stalled(self) -> str | None:
        idle_s = monotonic() - self._turned_at
        return f"{self._name} has not turned for {idle_s:.0f} s" if idle_s > STALL_S else None
