"""Waiting, within bounds, for the end of a job: the tail tells of it, so nothing is polled."""

from __future__ import annotations

import asyncio

from gateway.context import TENANT, Gateway
from gateway.state import Job


async def ended(here: Gateway, job_id: str, wait_s: float) -> Job | None:
    """The job once it has ended; None if that takes longer, or if the gateway stops. Raises Problem if it is lost."""
    until = asyncio.get_running_loop().time() + wait_s
    job = (await here.lookup.job(job_id, TENANT)).value
    if job.final:
        return job
    final = asyncio.create_task(here.tail.final(job_id))
    stopping = asyncio.create_task(here.runtime.stopping.wait())
    try:
        left_s = max(0.0, until - asyncio.get_running_loop().time())
        await asyncio.wait({final, stopping}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        return (await here.lookup.job(job_id, TENANT)).value if final.done() else None
    finally:
        final.cancel()
        stopping.cancel()
