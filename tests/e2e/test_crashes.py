"""No job is lost when services are killed or stopped, or lose their database."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from tests.patience import patient

from contracts.topics import SERVICES

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

JOBS = 20
NO_MEDIA = {"status": 500, "error": "nothing came of it", "error_type": "no_media_generated"}
"""A failure of the model, which does not count against the provider's health."""
DRAIN_S = 25


@asynccontextmanager
async def load(system: System, name: str) -> AsyncIterator[None]:
    """Jobs of several kinds at both providers: some have been submitted when the block begins, all end with it.

    All succeed, save for those with one provider that certainly never received the submit.
    """
    await system.fault(f"{name}: silent", {"fail": NO_MEDIA}, provider="fal")
    await system.fault(f"{name}: too big", {"fail": "out_of_memory"}, provider="replicate")
    ways = {"silent": ["fal", "replicate"], "too big": ["replicate", "fal"], "one": ["fal"], "other": ["replicate"]}
    prompts = {f"{name}: {way} {n}": providers for n in range(JOBS // len(ways)) for way, providers in ways.items()}
    tasks = [asyncio.create_task(system.submit(prompt, providers=way)) for prompt, way in prompts.items()]

    async def in_flight() -> bool:
        return len(await system.posts(f"{name}:")) >= JOBS // 4

    await system.until("some have reached a provider", in_flight)
    yield
    ids = await asyncio.gather(*tasks)
    assert len(set(ids)) == JOBS
    jobs = [await system.ended(job_id, within_s=90) for job_id in ids]
    failed = [job for job in jobs if job["status"] != "succeeded"]
    lost = [job for job in failed if any(each["error_kind"] == "never_accepted" for each in job["attempts"])]
    assert failed == lost
    await system.assert_paid_once(jobs, f"{name}:")


async def test_what_is_killed_loses_no_job_and_buys_none_twice(system: System) -> None:
    async with AsyncExitStack() as under_way:
        for killed in (*((service,) for service in SERVICES), ("orchestrator", "fal-adapter")):
            await under_way.enter_async_context(load(system, f"killed {'+'.join(killed)}"))
            assert await system.kill(*killed) == [-signal.SIGKILL] * len(killed)
            await system.start(*killed)
    await system.until_idle()


async def test_a_stopped_service_drains_and_loses_nothing(system: System) -> None:
    async with AsyncExitStack() as under_way:
        for service in SERVICES:
            await under_way.enter_async_context(load(system, f"stopped {service}"))
            began = time.monotonic()
            assert await system.kill(service, sig=signal.SIGTERM) == [0]
            assert time.monotonic() - began < patient(DRAIN_S)
            await system.start(service)
    await system.until_idle()


async def test_requests_are_accepted_without_the_database_and_run_once_it_is_back(system: System) -> None:
    before = await system.submit("before the outage")
    await system.ended(before)
    async with load(system, "no database"):
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
    await system.assert_paid_once(jobs, "without a database")
