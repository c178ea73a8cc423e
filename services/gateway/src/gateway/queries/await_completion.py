"""Waiting, within bounds, for the end of a job: the tail tells of it, so nothing is polled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from fastapi import Request

from gateway.context import TENANT, Gateway
from gateway.queries.model import Job

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


async def ended(here: Gateway, request: Request, job_id: str, wait_s: float) -> Waited:
    """The job once it has ended, unless that takes longer, or the gateway stops. Raises Problem if it is lost.

    Nobody waits for a client that is gone.
    """
    until = asyncio.get_running_loop().time() + wait_s
    job = (await here.lookup.job(job_id, TENANT)).value
    if job.final:
        return Waited(job, as_asked=True)
    if wait_s <= 0:
        return Waited(None, as_asked=True)
    with here.waiters.one_more() as may:
        if not may or not await _ends(here, request, job_id, until):
            return Waited(None, as_asked=may)
    return Waited((await here.lookup.job(job_id, TENANT)).value, as_asked=True)


async def _ends(here: Gateway, request: Request, job_id: str, until: float) -> bool:
    final = asyncio.create_task(here.tail.final(job_id))
    others = {asyncio.create_task(here.runtime.stopping.wait()), asyncio.create_task(_gone(request))}
    try:
        left_s = max(0.0, until - asyncio.get_running_loop().time())
        await asyncio.wait({final, *others}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        return final.done()
    finally:
        for task in (final, *others):
            task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # It is a body that nobody asked for.
