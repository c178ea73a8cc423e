"""Bounded waiting for the end of a job. The tail signals the end; nothing is polled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from gateway.places import Places
from gateway.queries.lookup import Lookup
from gateway.queries.model import Job
from gateway.queries.tail import JobTail


@dataclass(frozen=True, slots=True)
class Waited:
    """The outcome of waiting for a job."""

    job: Job | None
    """The job if it has ended, else None."""
    honoured: bool
    """False if the request did not wait because too many others do."""


@dataclass(frozen=True, slots=True)
class Completion:
    """Waits for jobs to end."""

    lookup: Lookup
    tail: JobTail
    stopping: asyncio.Event
    """Set when the process shuts down; ends all waits."""
    waiters: Places

    async def ended(
        self, job_id: str, tenant: str, wait_s: float, gone: Callable[[], Coroutine[None, None, None]]
    ) -> Waited:
        """Wait until the job has ended, for `wait_s` seconds at most, or until the process stops.

        `gone` returns when the client has disconnected. Raises NotFound, ReadModelUnavailable and TailBehind.
        """
        deadline = asyncio.get_running_loop().time() + wait_s
        job = (await self.lookup.job(job_id, tenant)).value
        if job.final:
            return Waited(job, honoured=True)
        if wait_s <= 0:
            return Waited(None, honoured=True)
        with self.waiters.one_more() as admitted:
            if not admitted or not await self._ends(job_id, deadline, gone):
                return Waited(None, honoured=admitted)
        return Waited((await self.lookup.job(job_id, tenant)).value, honoured=True)

    async def _ends(self, job_id: str, deadline: float, gone: Callable[[], Coroutine[None, None, None]]) -> bool:
        final = asyncio.create_task(self.tail.final(job_id))
        others = {asyncio.create_task(self.stopping.wait()), asyncio.create_task(gone())}
        try:
            left_s = max(0.0, deadline - asyncio.get_running_loop().time())
            await asyncio.wait({final, *others}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            return final.done()
        finally:
            for task in (final, *others):
                task.cancel()
