"""Attempts whose command was read late: they are not sent before the commands behind it have been read as well.

While an adapter does not run, commands pile up in Kafka: those to run an attempt, and behind them those to cancel it.
The orchestrator may have ended such a job already, so that its attempt must not be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Final, Protocol

from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.states import Queued
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime
from contracts.ids import AttemptId, JobId

READ_LATE_S: Final = 10.0
"""A command that is read more than this many seconds after it was given is late. The orchestrator takes longer
than that to end the job of a silent adapter after a cancel."""
LOOK_EVERY_S: Final = 0.5
HOLD_S: Final = 0.5
"""Seconds until it is looked again whether an attempt whose command was read late may be sent."""
CLEARED_S: Final = 60.0
"""Seconds for which it is known that an attempt need not wait any longer; after that it is looked up again."""

Holds = Callable[[Attempt], bool]
"""Whether an attempt whose command was read late still has to wait. The answer False is given once."""


class CommandProgress(Protocol):
    """How far the commands have been read from Kafka."""

    async def heard_until(self, keys: Sequence[str], /) -> Mapping[str, float | None]:
        """For each job id, the time up to which its commands are in the ledger (`time.monotonic`); None if unknown."""
        ...


class LateCommands:
    """Tells which attempts have to wait, and looks up whether they still have to."""

    def __init__(self, progress: CommandProgress, runtime: Runtime) -> None:
        self._progress = progress
        self._runtime = runtime
        self._waiting: dict[AttemptId, tuple[JobId, float]] = {}
        self._cleared: dict[AttemptId, float] = {}
        """The attempts that need not wait any longer and have not been claimed since, and when that was found."""
        self._asked = asyncio.Event()

    def holds(self, attempt: Attempt) -> bool:
        """Whether an attempt whose command was read late still has to wait. The answer False is given once."""
        if self._cleared.pop(attempt.attempt_id, None) is not None:
            return False
        self._waiting.setdefault(attempt.attempt_id, (attempt.job_id, monotonic()))
        self._asked.set()
        return True

    def running(self, wake: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Look for as long as the block lasts. `wake` is called once attempts need not wait any longer."""
        return background(self._runtime, "the late commands", self._run(wake))

    async def _run(self, wake: Callable[[], None]) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            if await self.look():
                wake()
            if self._waiting:
                self._asked.set()
            if not await self._runtime.pause(LOOK_EVERY_S):
                return

    async def look(self) -> bool:
        """Look once; returns whether an attempt need not wait any longer."""
        waiting, now = dict(self._waiting), monotonic()
        # Those that were cancelled, or claimed by another replica, are never asked about again.
        self._cleared = {one: at for one, at in self._cleared.items() if now - at < CLEARED_S}
        read_until = await self._progress.heard_until(sorted({job_id for job_id, _ in waiting.values()}))
        for attempt_id, (job_id, since) in waiting.items():
            if (until := read_until[job_id]) is not None and until >= since:
                del self._waiting[attempt_id]
                self._cleared[attempt_id] = now
        return bool(waiting.keys() & self._cleared)


def unless_held(attempt: Attempt, holds: Holds, now: datetime) -> Attempt | None:
    """The attempt, which may be stepped; None if it has to wait, because its command was read late."""
    if not attempt.read_late or not isinstance(attempt.state, Queued) or now >= attempt.deadline_at:
        return attempt
    return None if holds(attempt) else replace(attempt, read_late=False)
