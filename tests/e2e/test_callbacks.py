"""Callbacks of providers: they settle submits whose answer was lost, and runs are polled less often."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from tests.patience import patient

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROVIDERS = ("fal", "replicate")
ANSWER_S = min(patient(30), 300)
CALLED = ("gateway", "fal-adapter", "replicate-adapter")


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def called(shared_system: System) -> AsyncIterator[System]:
    """The system, with a public URL: providers call back."""
    system = shared_system
    settings = {
        "SEGUE_PUBLIC_URL": system.parts["gateway"].address,
        "SEGUE_CALLBACK_SECRET": "0123456789abcdef0123456789abcdef",
        "FAL_JWKS_URL": f"{system.env['FAL_API_URL']}/.well-known/jwks.json",
        # Longer than a callback takes, so that the callback comes first.
        "SEGUE_SUBMIT_TIMEOUT_S": str(ANSWER_S),
        "SEGUE_SUBMIT_GRACE_S": str(4 * ANSWER_S),
    }
    await system.kill(*CALLED)
    await system.start(*CALLED, **settings)
    yield system
    await system.kill(*CALLED)
    await system.start(*CALLED)


@pytest_asyncio.fixture(loop_scope="session")
async def system(called: System) -> AsyncIterator[System]:
    yield called
    (await called.sandbox.put("/faults", json=[])).raise_for_status()


async def counted(system: System, service: str, name: str, **labels: str) -> float:
    pages = await system.sandbox.get(f"{system.parts[service].address}/metrics")
    samples = [sample for family in text_string_to_metric_families(pages.text) for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("answer", ["hang", "drop", "502"])
async def test_a_callback_settles_a_submit_whose_answer_was_lost(system: System, provider: str, answer: str) -> None:
    prompt = f"lost by {answer} at {provider}"
    await system.fault(prompt, {"accept_then": answer})
    # Otherwise the listing would find the run, too.
    await system.fault("", {"refuse": "internal_500"}, on="list")
    began = time.monotonic()
    job = await system.ended(await system.submit(prompt, providers=[provider]))
    assert time.monotonic() - began < ANSWER_S / 2
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    await system.assert_paid_once([job], prompt)
    assert len([post for post in await system.posts(prompt) if post["accepted"]]) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("fault", [["duplicate"], ["null"], ["late"], ["never"], ["forged"], ["stale"], ["oversize"]])
async def test_a_job_succeeds_whatever_is_wrong_with_its_callback(
    system: System, provider: str, fault: list[str]
) -> None:
    prompt = f"{fault[0]} callback of {provider}"
    await system.fault(prompt, {"webhook": fault})
    job = await system.ended(await system.submit(prompt, providers=[provider]))
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    await system.assert_paid_once([job], prompt)


async def test_a_failed_run_is_called_back_too(system: System) -> None:
    await system.fault("ends badly", {"fail": "internal_500"}, provider="fal")
    job = await system.ended(await system.submit("ends badly", providers=["fal", "replicate"]))
    assert (job["status"], [each["state"] for each in job["attempts"]]) == ("succeeded", ["failed", "succeeded"])
    await system.assert_paid_once([job], "ends badly")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_runs_are_polled_less_often_while_callbacks_arrive(system: System, provider: str) -> None:
    adapter = f"{provider}-adapter"
    await system.ended(await system.submit(f"the first of {provider}", providers=[provider]))

    async def arrive() -> bool:
        return await counted(system, adapter, "segue_callbacks_arrive", provider=provider) == 1

    await system.until("callbacks arrive", arrive)
    checks = {"provider": provider, "action": "check"}
    before = await counted(system, adapter, "segue_provider_call_seconds_count", **checks)
    await system.fault(f"a long one of {provider}", {"run_s": 6})
    began = time.monotonic()
    job = await system.ended(await system.submit(f"a long one of {provider}", providers=[provider]))
    assert job["status"] == "succeeded"
    # The callback ended it, and not the next poll.
    assert time.monotonic() - began < patient(12)
    polls = await counted(system, adapter, "segue_provider_call_seconds_count", **checks) - before
    assert polls <= 4, "polled as if no callbacks arrived"
    assert await counted(system, adapter, "segue_duplicates_suspected_total") == 0


async def test_the_gateway_counts_accepted_and_refused_callbacks(system: System) -> None:
    async def outcome(name: str) -> float:
        return await counted(system, "gateway", "segue_callbacks_total", outcome=name)

    for name in ("taken", "bad-signature", "body-too-large"):
        await system.until(f"{name} is counted", partial(outcome, name))
    assert await outcome("wrong-address") == 0
    async with httpx.AsyncClient(base_url=str(system.api.base_url), trust_env=False, timeout=patient(60)) as stranger:
        assert (await stranger.post("/api/callbacks/fal/x/y", content=b"{}")).status_code == 404
