"""The loop over due rows: claims rows of a table once they are due, or earlier after a wake-up.

Any number of replicas may claim from the same table. Rows that one has locked are skipped by the others, which retry.
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
"""Upper bound of a pause in seconds: rows of another replica become due without a wake-up in this process."""
LOCKED_S: Final = 0.1
RETRY_S: Final = 0.5
STALL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Claimed:
    """The result of one pass over the table."""

    some: bool
    """Whether any row was claimed."""
    next_s: float | None
    """Seconds until the next row is due, 0 or less if one is already due; None if no row is waiting."""

    @property
    def pause_s(self) -> float:
        """Seconds until the next pass, unless a wake-up comes first."""
        if self.next_s is None:
            return LONGEST_SLEEP_S
        # Due rows that were not claimed are locked by another replica; a pause avoids polling them continuously.
        return min(LONGEST_SLEEP_S, max(0.0 if self.some else LOCKED_S, self.next_s))


class DueRows:
    """The loop over a table's due rows."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        """`name` is for logs and `/livez`."""
        self._runtime = runtime
        self._name = name
        self._wake = asyncio.Event()
        self._alarm: asyncio.Handle | None = None
        """Starts the next pass when a row is due."""
        self._alarm_at = 0.0
        self._closing = False
        self._pass_at = monotonic()
        self._log = get_logger("chassis.postgres.due_rows").bind(loop=name)

    def wake(self) -> None:
        """Start the next pass now."""
        self._wake.set()

    def wake_within(self, seconds: float) -> None:
        """Start the next pass within `seconds`."""
        at = asyncio.get_running_loop().time() + seconds
        if self._alarm is None or at < self._alarm_at:
            self._cancel_alarm()
            self._alarm_at, self._alarm = at, asyncio.get_running_loop().call_at(at, self._wake.set)

    @asynccontextmanager
    async def running(self, claim: Callable[[], Awaitable[Claimed]]) -> AsyncIterator[None]:
        """Claim due rows for as long as the block lasts; at its end, a pass in progress is completed.

        `claim` makes one pass, in less than 60 s.
        """
        self._pass_at = monotonic()
        self._runtime.must_live(self._stalled)
        # The loop is not cancelled: a claim that is cancelled at its commit may be a paid request that is never sent.
        async with background(self._runtime, self._name, self._run(claim), finish=self._close):
            yield

    def _close(self) -> None:
        self._closing = True
        self._wake.set()

    async def _run(self, claim: Callable[[], Awaitable[Claimed]]) -> None:
        while not self._closing:
            self._wake.clear()
            self._cancel_alarm()
            self._pass_at = monotonic()
            try:
                pause_s = (await claim()).pause_s
            except TRANSIENT as error:
                self._log.warning(PostgresEvent.DUE_ROWS_POSTPONED, error=repr(error))
                pause_s = RETRY_S
            self.wake_within(pause_s)
            await self._wake.wait()
        self._cancel_alarm()

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _stalled(self) -> str | None:
        idle_s = monotonic() - self._pass_at
        return f"{self._name} has made no pass for {idle_s:.0f} s" if idle_s > STALL_S else None
