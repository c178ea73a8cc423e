"""`/api/providers` and `/api/health/providers` on the adapters' own schemas: complete, and at most a second old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from tests.patience import eventually

import adapter_kit
from adapter_kit.breaker.policy import Breaker, blocked, record_failure, record_success
from adapter_kit.breaker.store import PROVIDER, save
from chassis.postgres.pool import migrate
from contracts.failures import FailureKind
from gateway.queries.single_flight import AT_MOST_OLD_S, SingleFlight
from segue_cli.local.kafka import kafka
from segue_cli.local.postgres import postgres

pytestmark = pytest.mark.asyncio(loop_scope="session")

REFUSED = "401: Authentication is required to access this application."


@dataclass
class Adapters:
    """Writes to the schemas of both adapters, as the adapters do."""

    connection: asyncpg.Connection[asyncpg.Record]

    async def report_health(self, provider: str, status: str = "ok", error: str | None = None) -> None:
        await self.connection.execute(
            f"INSERT INTO {provider}_adapter.health VALUES ($1, $2, $3, now(), now(), 2, 6)"  # noqa: S608 - ours
            " ON CONFLICT (provider) DO UPDATE SET status = excluded.status, error = excluded.error",
            provider, status, error,
        )  # fmt: skip

    async def breaker(self, provider: str, breaker: Breaker) -> None:
        async with self.connection.transaction():
            await self.connection.execute(f"SET LOCAL search_path TO {provider}_adapter")
            await self.connection.execute(
                "INSERT INTO breakers (scope, since) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                breaker.scope,
                breaker.since,
            )
            await save(self.connection, [breaker])

    async def attempt(self, provider: str, name: str, state: str, due: bool = True, **columns: Any) -> None:
        columns = {"endpoint": "test/model", **columns}
        values = ", ".join(f"${n}" for n in range(4, 4 + len(columns)))
        await self.connection.execute(
            f"INSERT INTO {provider}_adapter.attempts (attempt_id, job_id, state, version, next_action_at, deadline_at,"  # noqa: S608 - ours
            f" arguments_hash, body, {', '.join(columns)})"
            f" VALUES ($1, $1, $2, 1, CASE WHEN $3 THEN now() END, now(), '', '{{}}', {values})",
            name, state, due, *columns.values(),
        )  # fmt: skip


@pytest_asyncio.fixture(loop_scope="session")
async def adapters(world: Any) -> AsyncIterator[Adapters]:
    for provider in ("fal", "replicate"):
        await migrate(world.database_url, f"{provider}_adapter", adapter_kit)
    connection = await asyncpg.connect(world.database_url)
    try:
        made = Adapters(connection)
        await made.report_health("fal")
        await made.report_health("replicate")
        await world.outdate_reads()
        yield made
    finally:
        await connection.execute("DROP SCHEMA fal_adapter, replicate_adapter CASCADE")
        await connection.close()
        # The other tests of this world start from adapters that have reported nothing.
        await world.outdate_reads()


async def health_of(world: Any) -> dict[str, Any]:
    answer = await world.client.get("/api/health/providers")
    assert answer.status_code == 200
    shown: dict[str, Any] = answer.json()
    return shown


async def status_of(world: Any, provider: str = "fal") -> dict[str, Any]:
    answer = await world.client.get("/api/providers")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = {each["provider"]: each for each in answer.json()["providers"]}[provider]
    return shown


async def polled(world: Any, within_s: float, wanted: Any) -> None:
    """Poll, as an open page does, until the condition is met."""
    await eventually(wanted, within_s)


async def test_a_provider_that_is_not_enabled_is_no_failure(
    world: Any, world_on: Any, adapters: Adapters, tmp_path: Path
) -> None:
    await adapters.report_health("fal", "fail", REFUSED)
    servers = world.parts.settings.kafka_bootstrap_servers
    async with world_on(servers, world.database_url, tmp_path, SEGUE_PROVIDERS="replicate") as one:
        shown = {"fal": "disabled", "fal_error": None, "replicate": "ok", "replicate_error": None}
        assert await health_of(one) == shown
        fal, replicate = await status_of(one, "fal"), await status_of(one, "replicate")
    assert (fal["status"], fal["error"], fal["since"]) == ("disabled", None, None)
    assert replicate["status"] == "ok"


async def test_an_open_and_a_closed_breaker_show_within_a_second(world: Any, adapters: Adapters) -> None:
    async def shows(status: str) -> bool:
        return bool((await health_of(world))["fal"] == (await status_of(world))["status"] == status)

    await polled(world, 5, lambda: shows("ok"))
    now = datetime.now(UTC)
    shut = record_failure(
        Breaker(PROVIDER, now - timedelta(minutes=5)), FailureKind.UNAUTHORIZED, REFUSED, now, open_s=60
    )
    await adapters.breaker("fal", shut)
    await polled(world, 1, lambda: shows("fail"))
    assert await health_of(world) == {"fal": "fail", "replicate": "ok", "fal_error": REFUSED, "replicate_error": None}
    shown = await status_of(world)
    assert (shown["error"], shown["last_error"]["kind"], shown["last_error"]["message"]) == (
        REFUSED, "unauthorized", REFUSED,
    )  # fmt: skip
    assert shut.open_until is not None
    times = {name: shown["breaker"][name] for name in ("since", "retry_at")} | {"failing since": shown["since"]}
    assert {name: datetime.fromisoformat(at) for name, at in times.items()} == {
        "since": now, "retry_at": shut.open_until, "failing since": now,
    }  # fmt: skip
    assert (shown["breaker"]["state"], shown["breaker"]["openings"]) == ("open", 1)
    await adapters.breaker("fal", record_success(shut, now + timedelta(seconds=1)))
    await polled(world, 1, lambda: shows("ok"))
    shown = await status_of(world)
    assert (shown["breaker"]["state"], shown["breaker"]["retry_at"]) == ("closed", None)
    assert shown["last_error"]["message"] == REFUSED


async def test_a_key_that_the_free_probe_found_refused_shows_within_a_second(world: Any, adapters: Adapters) -> None:
    await adapters.report_health("replicate", "fail", "401: You did not pass a valid authentication token")

    async def fails() -> bool:
        return bool((await health_of(world))["replicate"] == (await status_of(world, "replicate"))["status"] == "fail")

    await polled(world, 1, fails)
    shown = await status_of(world, "replicate")
    assert shown["error"] == shown["probe"]["error"] == "401: You did not pass a valid authentication token"
    assert shown["breaker"]["state"] == "closed"


async def test_an_endpoint_with_an_open_breaker_is_shown_as_failed_and_its_provider_as_ok(
    world: Any, adapters: Adapters
) -> None:
    now = datetime.now(UTC)
    await adapters.breaker("fal", Breaker(PROVIDER, now))
    await adapters.breaker(
        "fal", record_failure(Breaker("gone/model", now), FailureKind.MODEL_NOT_FOUND, "404: no such app", now)
    )
    patient = blocked(Breaker("slow/model", now), now + timedelta(seconds=30))
    await adapters.breaker("fal", patient)
    await world.outdate_reads()
    shown = await status_of(world)
    assert shown["status"] == "ok"
    endpoints = {
        each["endpoint"]: each for each in shown["endpoints"] if each["endpoint"] in ("gone/model", "slow/model")
    }
    assert [(name, each["status"], each["breaker"]["state"]) for name, each in endpoints.items()] == [
        ("gone/model", "fail", "open"), ("slow/model", "ok", "closed"),
    ]  # fmt: skip
    assert endpoints["gone/model"]["last_error"]["kind"] == "model_not_found"
    assert endpoints["slow/model"]["breaker"]["blocked_until"] is not None


async def test_running_and_queued_attempts_are_counted_and_shown_with_the_limits(
    world: Any, adapters: Adapters
) -> None:
    for n, state in enumerate(("submitting", "running", "running", "ambiguous", "queued", "queued")):
        await adapters.attempt("fal", f"live-{n}", state, throttling_reported=n == 5)
    await adapters.attempt("fal", "elsewhere", "cancelling", endpoint="other/model")
    await adapters.attempt("fal", "over", "succeeded", due=False)
    await adapters.attempt("fal", "late", "failed")
    await world.outdate_reads()
    shown = await status_of(world)
    assert shown["in_flight"] == {
        "total": 5, "submitting": 1, "running": 2, "collecting": 0, "cancelling": 1, "ambiguous": 1,
    }  # fmt: skip
    assert (shown["queued"]["total"], shown["queued"]["held_back"], shown["late"]) == (2, 1, 1)
    assert shown["queued"]["oldest_at"] is not None
    assert shown["caps"] == {"concurrent_runs": 2, "submits_per_minute": 6}
    loads = {each["endpoint"]: each["in_flight"]["total"] for each in shown["endpoints"]}
    assert (loads["test/model"], loads["other/model"]) == (4, 1)


async def test_recently_expected_and_received_webhooks_are_counted(world: Any, adapters: Adapters) -> None:
    expected: dict[str, Any] = {
        "expects_callback": True,
        "accepted_at": datetime(2026, 1, 1, tzinfo=UTC),
        "called_back": False,
    }
    await adapters.attempt("fal", "polled", "succeeded", due=False, **expected)
    await adapters.attempt("fal", "stopped", "failed", due=False, **expected, cancel_reason="client")
    await adapters.attempt("fal", "refused", "failed", due=False, **expected | {"accepted_at": None})
    await adapters.attempt("fal", "called", "collecting", **expected | {"called_back": True})
    await world.outdate_reads()
    assert (await status_of(world))["webhooks"] == {"expected": 2, "heard": 1, "arriving": True}
    assert (await status_of(world, "replicate"))["webhooks"] == {"expected": 0, "heard": 0, "arriving": None}


async def test_recent_ends_of_attempts_are_counted_from_their_events(
    world: Any, adapters: Adapters, story_of: Any
) -> None:
    before = {provider: (await status_of(world, provider))["recent"] for provider in ("fal", "replicate")}
    job_id = (await world.post()).json()["job_id"]
    await world.store(*story_of(job_id).attempts())
    await world.outdate_reads()
    fal, replicate = (await status_of(world))["recent"], (await status_of(world, "replicate"))["recent"]
    assert fal["failed"] == before["fal"]["failed"] + 1
    kind = "insufficient_balance"
    assert fal["kinds"][kind] == before["fal"]["kinds"].get(kind, 0) + 1
    assert fal["provider_error_rate"] == fal["provider_failed"] / (fal["provider_failed"] + fal["succeeded"])
    assert replicate["succeeded"] == before["replicate"]["succeeded"] + 1
    assert 0 <= replicate["p50_s"] <= replicate["p95_s"]


async def test_an_adapter_that_has_never_run_is_shown_as_failed(world: Any) -> None:
    await world.outdate_reads()
    shown = await status_of(world)
    assert (shown["status"], shown["error"], shown["probe"]) == ("fail", "no report from fal-adapter yet", None)
    assert shown["breaker"] == {
        "state": "closed", "since": None, "retry_at": None, "blocked_until": None, "failures": 0, "openings": 0,
    }  # fmt: skip


async def test_without_postgres_it_is_503(world_on: Any, topic_sizes: dict[str, int], tmp_path: Path) -> None:
    async with (
        postgres() as server,
        kafka(topic_sizes) as cluster,
        world_on(cluster.bootstrap_servers, server.url, tmp_path) as world,
    ):
        assert (await world.client.get("/api/providers")).status_code == 200
        await server.stop("immediate")
        try:
            await world.outdate_reads()
            away = await world.client.get("/api/providers")
            assert (away.status_code, away.headers["content-type"]) == (503, "application/problem+json")
            assert away.json()["type"] == "urn:segue:problem:read-model-away"
            assert int(away.headers["retry-after"]) > 0
        finally:
            await server.start()


async def test_concurrent_calls_share_one_read() -> None:
    reads, go_on = 0, asyncio.Event()

    async def read() -> int:
        nonlocal reads
        reads += 1
        await go_on.wait()
        return reads

    fresh = SingleFlight(read, within_s=60)
    calls = [asyncio.create_task(fresh.get()) for _ in range(100)]
    await asyncio.sleep(0)
    go_on.set()
    assert set(await asyncio.gather(*calls)) == {1}
    assert await fresh.get() == 1


async def test_concurrent_calls_share_one_failure_and_have_a_time_limit() -> None:
    reads, go_on = 0, asyncio.Event()

    async def read() -> int:
        nonlocal reads
        reads += 1
        await go_on.wait()
        raise OSError("away")

    fresh = SingleFlight(read, within_s=60)
    calls = [asyncio.create_task(fresh.get()) for _ in range(100)]
    await asyncio.sleep(0)
    go_on.set()
    assert {type(outcome) for outcome in await asyncio.gather(*calls, return_exceptions=True)} == {OSError}
    assert reads == 1
    with pytest.raises(OSError, match="away"):
        await fresh.get()
    assert reads == 2
    go_on.clear()
    hasty = SingleFlight(read, within_s=0.1)
    outcomes = await asyncio.gather(*(hasty.get() for _ in range(100)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TimeoutError}


async def test_an_old_result_is_not_used_again() -> None:
    reads = iter(range(100))

    async def read() -> int:
        return next(reads)

    now = SingleFlight(read, within_s=60, at_most_old_s=-1)
    assert [await now.get(), await now.get()] == [0, 1]
    assert AT_MOST_OLD_S <= 0.5
