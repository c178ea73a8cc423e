"""Services die, are stopped, lose their database; jobs do not."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from contracts.topics import SERVICES

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

JOBS = 20
DRAIN_S = 25


@asynccontextmanager
async def load(system: System, name: str) -> AsyncIterator[None]:
    """Jobs of every kind of way on both providers, in full flight when the block begins, all well when it ends."""
    await system.fault(f"{name} hop", {"refuse": "balance"}, provider="fal")
    await system.fault(f"{name} back", {"fail": "internal_500"}, provider="replicate")
    ways = {"hop": ["fal", "replicate"], "back": ["replicate", "fal"], "fal": ["fal"], "replicate": ["replicate"]}
    prompts = [f"{name} {way} {n}" for n in range(JOBS // len(ways)) for way in ways]
    tasks = [asyncio.create_task(system.submit(one, providers=ways[one.split()[-2]])) for one in prompts]

    async def in_flight() -> bool:
        return len(await system.posts(name)) >= JOBS // 4

    await system.until("some have reached a provider", in_flight)
    yield
    ids = await asyncio.gather(*tasks)
    assert len(set(ids)) == JOBS
    jobs = await asyncio.gather(*(system.ended(job_id, within_s=90) for job_id in ids))
    assert [job["status"] for job in jobs] == ["succeeded"] * JOBS, [job["error"] for job in jobs]
    await system.paid_once(jobs, name)
    await system.quiet()


@pytest.mark.parametrize(
    "killed", [*((service,) for service in SERVICES), ("orchestrator", "fal-adapter")], ids="+".join
)
async def test_what_is_killed_loses_no_job_and_buys_none_twice(system: System, killed: tuple[str, ...]) -> None:
    async with load(system, f"killed {' and '.join(killed)}"):
        assert await system.end(*killed) == [-signal.SIGKILL] * len(killed)
        await system.start(*killed)


async def test_what_is_told_to_stop_drains_and_loses_nothing(system: System) -> None:
    for service in SERVICES:
        async with load(system, f"stopped {service}"):
            began = time.monotonic()
            assert await system.end(service, sig=signal.SIGTERM) == [0]
            assert time.monotonic() - began < DRAIN_S
            await system.start(service)


async def test_without_its_database_segue_goes_on_accepting_and_catches_up(system: System) -> None:
    before = await system.submit("before the outage")
    await system.ended(before)
    async with load(system, "outage"):
        await system.postgres.stop("immediate")
        try:
            began = time.monotonic()
            taken = [await system.submit(f"without a database {n}", within_s=10) for n in range(3)]
            answers = [await system.api.get(f"/api/jobs/{job_id}") for job_id in (before, *taken)]
            assert {answer.status_code for answer in answers} == {200}
            assert all(answer.json()["stale"] for answer in answers)
            nobody = await system.api.get("/api/jobs/00000000-0000-4000-8000-000000000000")
            assert (nobody.status_code, nobody.json()["type"]) == (503, "urn:segue:problem:read-model-away")
            assert (await system.api.get("/api/jobs")).status_code == 503
            await asyncio.sleep(max(0, 5 - (time.monotonic() - began)))  # An outage has to last; nothing is awaited.
        finally:
            await system.postgres.start()
    jobs = [await system.ended(job_id) for job_id in taken]
    assert {job["status"] for job in jobs} == {"succeeded"}
    await system.paid_once(jobs, "without a database")
