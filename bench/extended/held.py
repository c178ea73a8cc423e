"""How the cost of a job grows with the number of jobs that are in flight at a provider."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from bench.accounts import cpu_of
from bench.measures import each, throughput
from bench.system import System

MEASURED_JOBS: Final = 100
WATCHED_S: Final = 10.0
SUBMITTED_WITHIN_S: Final = 240.0


@dataclass(frozen=True, slots=True)
class Held:
    """The cost of jobs while others are in flight."""

    in_flight: int
    cpu_ms_per_job: float
    """CPU time in milliseconds, of all processes, per failover job that is made beside them."""
    waiting_cpu: float
    """Cores that those in flight keep busy while nothing else happens."""
    resident_mb: float
    """Resident memory of the adapter that holds them, in megabytes."""


async def held(system: System, sizes: tuple[int, ...], tell: Callable[[str], None]) -> list[Held]:
    """Bring that many jobs into flight, one number after the other, and measure at each.

    Ends before a number that this machine does not bring into flight within four minutes.
    """
    run, found, waiting = uuid.uuid4().hex[:8], [], 0
    before = (await system.counts())["fal POST"]
    for size in sizes:
        tell(f"{size} jobs in flight")
        more = size - waiting
        try:
            async with asyncio.timeout(SUBMITTED_WITHIN_S):
                await each(partial(_submit, system, f"held {run} {size}"), more, 20)
                while (await system.counts())["fal POST"] < before + more:  # noqa: ASYNC110 - in other processes
                    await asyncio.sleep(0.2)
        except TimeoutError:
            tell(f"{size} jobs were not in flight within {SUBMITTED_WITHIN_S:.0f} s")
            break
        waiting = size
        await asyncio.sleep(1)
        began = time.perf_counter()
        with cpu_of(system.parts) as idle:
            await asyncio.sleep(WATCHED_S)
        took_s = time.perf_counter() - began
        made = await throughput(system, MEASURED_JOBS, 20)
        before = (await system.counts())["fal POST"]
        resident = system.resident_mb("fal-adapter")
        found.append(Held(size, made.cpu_ms_per_job, idle.total / took_s, resident))
    return found


async def _submit(system: System, prompt: str, n: int) -> None:
    await system.submit(f"{prompt} {n}")
