"""Waiting, within bounds, for the end of a job: the tail tells of it, so nothing is polled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from gateway.queries.lookup import Lookup
from gateway.queries.model import Job
from gateway.queries.tail import JobTail

SHARE: Final = 4
"""Of the listener's places, one in so many may be held by requests that wait: that costs their clients nothing."""


@dataclass
class CompletionWaiters:
    """How many requests may wait for the end of a job, and how many do."""

    most: int
    now: int = 0

    @contextmanager
    def one_more(self) -> Iterator[bool]:
        """Whether there may be one more; it is counted for the length of the block."""
        may = self.now < self.most
        self.now += may
        try:
            yield may
        finally:
            self.now -= may


@dataclass(frozen=True, slots=True)
class Waited:
    """What came of waiting."""

    job: Job | None
    """The job, if it has ended."""
    as_asked: bool
    """False if it was not waited for, since too many wait already."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The ends of jobs, for those who wait for one."""

    lookup: Lookup
    tail: JobTail
    stopping: asyncio.Event
    """Set when the process is to stop: nobody is kept waiting then."""
    waiters: CompletionWaiters

    async def ended(
        self, job_id: str, tenant: str, wait_s: float, gone: Callable[[], Coroutine[None, None, None]]
    ) -> Waited:
        """The job once it has ended, unless that takes longer than `wait_s`, or the process stops.

        `gone` returns when nobody waits for the answer any more. Raises NotFound and ReadModelUnavailable.
        """
        until = asyncio.get_running_loop().time() + wait_s
        job = (await self.lookup.job(job_id, tenant)).value
        if job.final:
            return Waited(job, as_asked=True)
        if wait_s <= 0:
            return Waited(None, as_asked=True)
        with self.waiters.one_more() as may:
            if not may or not await self._ends(job_id, until, gone):
                return Waited(None, as_asked=may)
        return Waited((await self.lookup.job(job_id, tenant)).value, as_asked=True)

    async def _ends(self, job_id: str, until: float, gone: Callable[[], Coroutine[None, None, None]]) -> bool:
        final = asyncio.create_task(self.tail.final(job_id))
        others = {asyncio.create_task(self.stopping.wait()), asyncio.create_task(gone())}
        try:
            left_s = max(0.0, until - asyncio.get_running_loop().time())
            await asyncio.wait({final, *others}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            return final.done()
        finally:
            for task in (final, *others):
                task.cancel()
