"""The credential probe: one replica sends it, soon after a breaker opened; its outcome reaches breakers and views."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import TracerProvider
from tests.patience import patient

import adapter_kit
from adapter_kit.breaker.policy import Breaker, Limits, record_failure
from adapter_kit.breaker.probe import CredentialProbe, ProbeInterval
from adapter_kit.breaker.store import PROVIDER, BreakerStore, save
from adapter_kit.port.outcomes import Failure, KeyAccepted, KeyRefused, ProbeOutcome
from chassis.observability.telemetry import Telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.failures import FailureKind

REFUSED = KeyRefused(Failure(FailureKind.UNAUTHORIZED, "401: not a key", http_status=401))
BREAKERS = BreakerStore(Limits(concurrent=2, per_minute=6), open_s=300)


class ProbedProvider:
    """A provider that answers a credential probe once `answers` is set."""

    name = "fal"

    def __init__(self) -> None:
        self.outcome: ProbeOutcome = KeyAccepted()
        self.times = 0
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self.answers.set()

    async def probe(self, _endpoint: str) -> ProbeOutcome:
        self.times += 1
        self.asked.set()
        await self.answers.wait()
        return self.outcome


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=4) as opened:
        await opened.execute("INSERT INTO free_probe VALUES ('fal', now(), now())")
        yield opened


@pytest.fixture
def provider() -> ProbedProvider:
    return ProbedProvider()


def replica(
    provider: ProbedProvider, pool: Pool, *, every_s: float = 3_600, shut_every_s: float = 3_600
) -> CredentialProbe:
    runtime = Runtime("fal-adapter", Telemetry(TracerProvider(), "fal-adapter", exporting=False))
    return CredentialProbe(
        cast("Any", provider), pool, runtime, "test/model", BREAKERS, ProbeInterval(every_s, shut_every_s)
    )


async def open_breaker(pool: Pool, kind: FailureKind = FailureKind.UNAUTHORIZED, scope: str = PROVIDER) -> None:
    now = await pool.fetchval("SELECT now()")
    await pool.execute("INSERT INTO breakers (scope, since) VALUES ($1, $2)", scope, now)
    async with pool.acquire() as connection:
        await save(connection, [record_failure(Breaker(scope, now), kind, "401", now, open_s=300)])


async def breaker(pool: Pool) -> Any:
    return await pool.fetchrow("SELECT *, retry_at <= now() AS due FROM v_gates WHERE scope = ''")


async def test_one_replica_probes_at_a_time_and_only_when_due(provider: ProbedProvider, pool: Pool) -> None:
    provider.answers.clear()
    first, second = replica(provider, pool), replica(provider, pool)
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(first.probe_if_due())
        await asyncio.wait_for(provider.asked.wait(), patient(60))
        assert not await second.probe_if_due()
        provider.answers.set()
    assert asking.result()
    assert not await second.probe_if_due()
    assert provider.times == 1


async def test_an_outcome_after_the_lease_expired_is_not_recorded(provider: ProbedProvider, pool: Pool) -> None:
    provider.answers.clear()
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(replica(provider, pool).probe_if_due())
        await asyncio.wait_for(provider.asked.wait(), patient(60))
        await pool.execute("UPDATE free_probe SET held_until = now() + interval '1 hour'")
        provider.answers.set()
    assert not asking.result()
    assert await pool.fetchval("SELECT count(*) FROM health") == 0


async def test_an_open_breaker_is_probed_at_once_and_then_more_often(provider: ProbedProvider, pool: Pool) -> None:
    health = replica(provider, pool, shut_every_s=0.000_001)
    assert await health.probe_if_due()
    assert not await health.probe_if_due()
    await open_breaker(pool)
    provider.outcome = REFUSED
    assert await health.probe_if_due()
    assert await health.probe_if_due()
    provider.outcome = KeyAccepted()
    assert await health.probe_if_due()
    assert provider.times == 4


async def test_an_open_breaker_of_an_endpoint_causes_no_probe(provider: ProbedProvider, pool: Pool) -> None:
    health = replica(provider, pool, shut_every_s=0.000_001)
    await open_breaker(pool, FailureKind.MODEL_NOT_FOUND, "test/model")
    assert await health.probe_if_due()
    assert not await health.probe_if_due()


async def test_an_accepted_key_makes_the_breaker_due_and_a_refused_one_keeps_it_open(
    provider: ProbedProvider, pool: Pool
) -> None:
    health = replica(provider, pool, shut_every_s=0.000_001)
    await open_breaker(pool)
    before = await breaker(pool)
    provider.outcome = REFUSED
    await health.probe_if_due()
    kept = await breaker(pool)
    assert (kept["state"], kept["due"], kept["error"]) == ("open", False, "401: not a key")
    assert kept["error_at"] > before["error_at"]
    provider.outcome = KeyAccepted()
    await health.probe_if_due()
    assert ((await breaker(pool))["state"], (await breaker(pool))["due"]) == ("open", True)


async def test_the_views_show_a_refused_key_and_the_limits_in_force(provider: ProbedProvider, pool: Pool) -> None:
    provider.outcome = REFUSED
    await replica(provider, pool).probe_if_due()
    row = await pool.fetchrow("SELECT * FROM v_free_probe")
    assert row is not None
    assert (row["status"], row["error"]) == ("fail", "401: not a key")
    assert (row["concurrent_runs"], row["submits_per_minute"]) == (2, 6)
    assert await pool.fetchval("SELECT status FROM v_health") == "fail"
