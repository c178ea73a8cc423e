"""Jobs while adapters do not run: they go to the other provider, wait, end at their deadline, or are cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from tests.e2e.conftest import CLUSTERS, system_on
from tests.patience import patient

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

SILENT_S = patient(5)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=CLUSTERS)
async def lone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """A system of its own, whose adapters count as silent soon after they die."""
    settings = {"SEGUE_ADAPTER_SILENT_S": str(SILENT_S)}
    async with system_on(request.param, tmp_path_factory.mktemp("silent"), settings) as system:
        yield system


async def until_silent(system: System, *names: str) -> None:
    """Wait until the orchestrator reports these adapters, and no others, as silent."""
    wanted = f"not heard of: {' and '.join(names)};" if names else None

    async def silent() -> bool:
        page = (await system.sandbox.get(f"{system.parts['orchestrator'].address}/readyz")).text
        return wanted in page if wanted else "not heard of" not in page

    await system.until(f"silent: {names}", silent)


async def texts(system: System, job_id: str, event: str) -> str:
    return " | ".join(entry["message"] or "" for entry in await system.log(job_id) if entry["event"] == event)


async def cancel(system: System, job_id: str) -> dict[str, Any]:
    answer = await system.api.post(f"/api/jobs/{job_id}/cancel", headers={"Prefer": "wait=60"})
    found: dict[str, Any] = answer.json()
    return found


async def test_jobs_go_around_a_dead_adapter_and_wait_only_if_all_are_dead(lone: System) -> None:
    await until_silent(lone)
    # Ordered before anybody can know that the adapter is dead: it stays there, since it may have been sent.
    await lone.kill("fal-adapter")
    ordered = await lone.submit("ordered from the dead", deadline_s=3_600)
    await until_silent(lone, "fal-adapter")

    around = await lone.ended(await lone.submit("around the dead"))
    assert (around["status"], around["provider"]) == ("succeeded", "replicate")
    assert [attempt["provider"] for attempt in around["attempts"]] == ["replicate"]
    accepted = await texts(lone, around["id"], "job.accepted")
    assert "may go to fal, replicate" in accepted
    assert "skipped fal: its adapter has not been heard of for " in accepted

    stopped = await cancel(lone, ordered)
    assert (stopped["status"], stopped["cancel"]["effect"]) == ("cancelled", "may_have_cost")
    assert stopped["cost_usd"] is None

    await lone.kill("replicate-adapter")
    await until_silent(lone, "fal-adapter", "replicate-adapter")
    doomed = await lone.submit("ends at its deadline", deadline_s=patient(3))
    waits = await lone.submit("waits for an adapter", deadline_s=3_600)
    given_up = await lone.submit("given up while it waits", deadline_s=3_600)
    failed = await lone.ended(doomed)
    assert (failed["status"], failed["error"]["kind"], failed["attempts"]) == ("failed", "expired", [])
    for provider in ("fal", "replicate"):
        assert f"skipped {provider}: its adapter has not been heard of for " in failed["error"]["message"]
    assert (await lone.job(waits))["status"] == "queued"
    free = await cancel(lone, given_up)
    assert (free["status"], free["cancel"]["effect"], free["cost_usd"]) == ("cancelled", "never_sent", 0)

    await lone.start("fal-adapter")
    made = await lone.ended(waits)
    assert (made["status"], made["provider"], len(made["attempts"])) == ("succeeded", "fal", 1)
    # It reads the commands of the job that was cancelled meanwhile: to run it, and to stop it.

    async def dropped() -> bool:
        return [attempt["state"] for attempt in (await lone.job(ordered)).get("attempts", ())] == ["cancelled"]

    await lone.until("the attempt that was ordered is cancelled", dropped)
    assert await lone.posts("ordered from the dead") == []

    # From the moment that it is ready, it is heard of.
    await lone.start("replicate-adapter")
    at_once = await lone.ended(await lone.submit("at once", providers=["replicate"]))
    assert at_once["status"] == "succeeded"
    assert "not been heard of" not in await texts(lone, at_once["id"], "job.accepted")
    await lone.until_idle()
