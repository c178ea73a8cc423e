"""Jobs accepted by a gateway whose clock is wrong, or is changed meanwhile, end as all others do."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.gateway.conftest import world_on

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

JOBS = 9


@pytest.mark.parametrize("steps", [(-20.0,), (600.0,), (0.0, -20.0, 600.0)], ids=str)
async def test_the_jobs_of_a_gateway_whose_clock_is_wrong_succeed(
    system: System, tmp_path: Path, steps: tuple[float, ...]
) -> None:
    off_by_s = 0.0
    prompt = f"by a clock that is off by {steps}"

    def wall() -> float:
        return time.time() + off_by_s

    async with world_on(system.kafka, system.env["DATABASE_URL"], tmp_path, wall=wall) as world:
        accepted = []
        for n in range(JOBS):
            off_by_s = steps[n % len(steps)]
            body = {"prompt": prompt, "duration_s": 2, "has_vocals": False, "style_strength": 0.5, "deadline_s": 120}
            answer = await world.post(body, idempotency_key=f"{prompt} {n}")
            assert answer.status_code == 202, answer.text
            accepted.append(answer.json()["job_id"])
        jobs = await asyncio.gather(*map(system.ended, accepted))
    assert {(job["status"], job["error"] and job["error"]["message"]) for job in jobs} == {("succeeded", None)}
