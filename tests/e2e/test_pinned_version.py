"""A route that pins a version of its model: the only way to a community model at Replicate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import COMMUNITY

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_job_goes_to_the_pinned_version(system: System) -> None:
    prompt = "by its version"
    job = await system.ended(await system.submit(prompt, model="music/musicgen"))
    assert (job["status"], job["provider"], job["cost_usd"]) == ("succeeded", "replicate", 0.03)
    assert [attempt["endpoint"] for attempt in job["attempts"]] == [COMMUNITY]
    await system.assert_paid_once([job], prompt)
    providers = {each["provider"]: each for each in (await system.api.get("/api/providers")).json()["providers"]}
    assert COMMUNITY in [each["endpoint"] for each in providers["replicate"]["endpoints"]]
    metrics = (await system.sandbox.get(f"{system.parts['replicate-adapter'].address}/metrics")).text
    assert f'segue_attempt_cost_usd_total{{model="{COMMUNITY}",provider="replicate"}} ' in metrics


async def test_a_lost_submit_of_a_pinned_version_is_found(system: System) -> None:
    prompt = "by its version, with a lost answer"
    await system.fault(prompt, {"accept_then": "hang"}, provider="replicate")
    job = await system.ended(await system.submit(prompt, model="music/musicgen"))
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    await system.assert_paid_once([job], prompt)
