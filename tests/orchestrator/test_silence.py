"""Which adapters are silent, read from their own views: at once if one is back, and nobody if it cannot be read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.patience import eventually

import adapter_kit
import orchestrator
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from orchestrator import silence
from orchestrator.decisions.remaining_candidates import NOT_ENABLED, OFF
from orchestrator.silence import Silence

SILENT_S = 45.0
BOTH = ("fal", "replicate")
WAITING = """
INSERT INTO jobs (job_id, state, version, next_action_at, body, deadline_at)
VALUES ($1, $2, 1, now() + interval '50 seconds', '{}', now() + interval '1 hour')
"""
DUE = "SELECT array_agg(job_id ORDER BY job_id) FROM jobs WHERE next_action_at <= now()"


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "orchestrator", orchestrator)
    for provider in BOTH:
        await migrate(database_url, f"{provider}_adapter", adapter_kit)
    async with open_pool(database_url, "orchestrator", max_size=4) as opened:
        yield opened


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("orchestrator", make_telemetry("orchestrator", None))


async def heard(pool: Pool, provider: str, ago_s: float = 0.0) -> None:
    await pool.execute(
        f"INSERT INTO {provider}_adapter.heartbeat VALUES ($1, now() - make_interval(secs => $2))"  # noqa: S608 - ours
        " ON CONFLICT (provider) DO UPDATE SET beat_at = excluded.beat_at",
        provider,
        ago_s,
    )


async def test_an_adapter_is_silent_after_the_limit_and_heard_of_with_its_next_beat(
    pool: Pool, runtime: Runtime
) -> None:
    watch = Silence(pool, runtime, BOTH, SILENT_S)
    await heard(pool, "fal", ago_s=SILENT_S - 5)
    silent = await watch.current()
    assert silent == {"replicate": None}
    await heard(pool, "replicate")
    assert await watch.current() == {}
    await heard(pool, "fal", ago_s=SILENT_S + 1)
    assert await watch.current() == {}, "what is known of those that are heard of is read in the background"


async def test_it_is_read_in_the_background(pool: Pool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "READ_EVERY_S", 0.05)
    watch = Silence(pool, runtime, BOTH, SILENT_S)
    await heard(pool, "fal")
    await heard(pool, "replicate")
    async with watch.running(lambda: None):

        async def known(names: set[str]) -> bool:
            return (await watch.current()).keys() == names

        await eventually(lambda: known(set()), 20)
        assert runtime.warnings() == []
        await heard(pool, "fal", ago_s=SILENT_S + 1)
        await eventually(lambda: known({"fal"}), 20)
        assert runtime.warnings() == ["not heard of: fal-adapter; no job is sent there"]
        runtime.stopping.set()


async def test_an_adapter_without_a_schema_has_never_been_heard_of(pool: Pool, runtime: Runtime) -> None:
    await heard(pool, "replicate")
    await pool.execute("DROP SCHEMA fal_adapter CASCADE")
    assert await Silence(pool, runtime, BOTH, SILENT_S).current() == {"fal": None}


async def test_nothing_is_ordered_from_a_provider_that_is_not_enabled_and_that_is_no_warning(
    pool: Pool, runtime: Runtime
) -> None:
    await heard(pool, "fal")
    await heard(pool, "replicate")
    assert await Silence(pool, runtime, ("fal",), SILENT_S).current() == {"replicate": NOT_ENABLED}
    await heard(pool, "replicate", ago_s=SILENT_S + 1)
    silent = await Silence(pool, runtime, ("fal",), SILENT_S).current()
    assert silent["replicate"] == OFF
    assert runtime.warnings() == []


async def test_nobody_is_silent_while_it_cannot_be_read_and_for_a_while_after_that(
    pool: Pool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Silence(pool, runtime, BOTH, SILENT_S)
    assert (await watch.current()).keys() == {"fal", "replicate"}
    with monkeypatch.context() as patch:
        patch.setattr(silence, "_NOW", "SELECT refused")
        assert await watch.current() == {}
    monkeypatch.setattr(silence, "READ_EVERY_S", 0.05)
    async with watch.running(lambda: None):
        began = watch._readings

        async def has_read() -> bool:
            return watch._readings > began + 2

        await eventually(has_read, 20)
        assert await watch.current() == {}
        runtime.stopping.set()


async def test_jobs_that_wait_are_due_once_an_adapter_is_heard_of_again(
    pool: Pool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "READ_EVERY_S", 0.05)
    for job_id, state in (("waits", "queued"), ("ordered", "queued"), ("runs", "running")):
        await pool.execute(WAITING, job_id, state)
    await pool.execute("INSERT INTO attempts (attempt_id, job_id, provider, live) VALUES ('a', 'ordered', 'fal', true)")
    woken: list[str] = []
    await heard(pool, "fal")
    watch = Silence(pool, runtime, ("fal",), SILENT_S)

    async def due() -> bool:
        return bool(woken) and await pool.fetchval(DUE) == ["waits"]

    async with watch.running(lambda: woken.append("again")):
        await eventually(due, 20)
        runtime.stopping.set()
