"""A paid output that cannot be fetched for a while: whoever waits sees it, and nothing is paid for twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Segue, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAILED_TRIES = 6
"""With pauses of 1, 2, 4, 8 and 16 s, so that the gauges, which are read every 15 s, show them."""
SAYS = re.compile(
    r"the outputs could not be fetched yet from \S+: output 1: the provider answers 503 to the request for its output; "
    r"tried again from \d\d:\d\d:\d\d UTC on"
)


async def metric(system: System, series: str) -> float:
    """The value of a series of the fal adapter; 0 if it has none yet."""
    page = (await system.sandbox.get(f"{system.parts['fal-adapter'].address}/metrics")).text
    found = re.search(rf"^{re.escape(series)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_outputs_that_cannot_be_fetched_for_a_while_are_visible(system: System, segue: Segue) -> None:
    prompt = "its storage is away"
    failures, failing = (
        'segue_fetch_failures_total{provider="fal",reason="http_5xx"}', 'segue_fetches_failing{provider="fal"}',
    )  # fmt: skip
    before = await metric(system, failures)
    await system.fault(prompt, {"files": {"not_yet": FAILED_TRIES, "status": 503}}, provider="fal")
    job_id = await system.submit(prompt, providers=["fal", "replicate"])

    async def said() -> str | None:
        attempts: list[dict[str, Any]] = (await system.job(job_id)).get("attempts", [])
        return attempts[0]["message"] if attempts and attempts[0]["state"] == "collecting" else None

    message = await system.until("the attempt says that its outputs cannot be fetched", said)
    assert message is not None
    assert SAYS.fullmatch(message), message
    assert "could not be fetched yet" in " ".join((await segue("job", job_id))[1].split())

    async def page_counts() -> bool:
        providers = (await system.api.get("/api/providers")).json()["providers"]
        return {each["provider"]: each["fetches_failing"] for each in providers} == {"fal": 1, "replicate": 0}

    async def gauge_is(value: float) -> bool:
        return await metric(system, failing) == value

    async def is_one() -> bool:
        return await gauge_is(1)

    async def is_none() -> bool:
        return await gauge_is(0)

    await system.until("the page of the providers counts it", page_counts)
    await system.until("the gauge counts it", is_one)
    job = await system.ended(job_id, within_s=120)
    assert (job["status"], [attempt["provider"] for attempt in job["attempts"]]) == ("succeeded", ["fal"])
    assert job["attempts"][0]["message"] is None
    assert await metric(system, failures) - before == FAILED_TRIES
    told = [entry["message"] for entry in await system.log(job_id) if SAYS.fullmatch(entry["message"] or "")]
    assert len(told) == 1, "one event for the reason, and not one for each try"
    await system.until("the gauge no longer counts it", is_none)
    assert len(await system.posts(prompt)) == 1
