"""`/api/providers` and `/api/health/providers`, on the adapters' own schemas: true at once, and about everything."""

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
    """Both adapters' schemas, and what they would write."""

    connection: asyncpg.Connection[asyncpg.Record]

    async def says(self, provider: str, status: str = "ok", error: str | None = None) -> None:
        await self.connection.execute(
            f"INSERT INTO {provider}_adapter.health VALUES ($1, $2, $3, now(), now(), 2, 6)"  # noqa: S608 - ours
            " ON CONFLICT (provider) DO UPDATE SET status = excluded.status, error = excluded.error",
            provider, status, error,
        )  # fmt: skip

    async def gate(self, provider: str, gate: Breaker) -> None:
        async with self.connection.transaction():
            await self.connection.execute(f"SET LOCAL search_path TO {provider}_adapter")
            await self.connection.execute(
                "INSERT INTO breakers (scope, since) VALUES ($1, $2) ON CONFLICT DO NOTHING", gate.scope, gate.since
            )
            await save(self.connection, [gate])

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
        await made.says("fal")
        await made.says("replicate")
        await world.outdate_reads()
        yield made
    finally:
        await connection.execute("DROP SCHEMA fal_adapter, replicate_adapter CASCADE")
        await connection.close()
        # The other tests of this world start from adapters that have reported nothing.
        await world.outdate_reads()


async def short(world: Any) -> dict[str, Any]:
    answer = await world.client.get("/api/health/providers")
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    return told


async def long(world: Any, provider: str = "fal") -> dict[str, Any]:
    answer = await world.client.get("/api/providers")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = {each["provider"]: each for each in answer.json()["providers"]}[provider]
    return told


async def asked_again(world: Any, within_s: float, wanted: Any) -> None:
    """Ask all the time, as a page does that somebody watches, until it is so."""
    await eventually(wanted, within_s)


async def test_a_gate_that_opens_and_closes_shows_within_a_second(world: Any, adapters: Adapters) -> None:
    async def says(status: str) -> bool:
        return bool((await short(world))["fal"] == (await long(world))["status"] == status)

    await asked_again(world, 5, lambda: says("ok"))
    now = datetime.now(UTC)
    shut = record_failure(
        Breaker(PROVIDER, now - timedelta(minutes=5)), FailureKind.UNAUTHORIZED, REFUSED, now, open_s=60
    )
    await adapters.gate("fal", shut)
    await asked_again(world, 1, lambda: says("fail"))
    assert await short(world) == {"fal": "fail", "replicate": "ok", "fal_error": REFUSED, "replicate_error": None}
    told = await long(world)
    assert (told["error"], told["last_error"]["kind"], told["last_error"]["message"]) == (
        REFUSED, "unauthorized", REFUSED,
    )  # fmt: skip
    assert shut.open_until is not None
    times = {name: told["breaker"][name] for name in ("since", "retry_at")} | {"ill since": told["since"]}
    assert {name: datetime.fromisoformat(at) for name, at in times.items()} == {
        "since": now, "retry_at": shut.open_until, "ill since": now,
    }  # fmt: skip
    assert (told["breaker"]["state"], told["breaker"]["openings"]) == ("open", 1)
    await adapters.gate("fal", record_success(shut, now + timedelta(seconds=1)))
    await asked_again(world, 1, lambda: says("ok"))
    told = await long(world)
    assert (told["breaker"]["state"], told["breaker"]["retry_at"]) == ("closed", None)
    assert told["last_error"]["message"] == REFUSED


async def test_a_key_that_the_free_probe_saw_refused_shows_within_a_second(world: Any, adapters: Adapters) -> None:
    await adapters.says("replicate", "fail", "401: You did not pass a valid authentication token")

    async def shown() -> bool:
        return bool((await short(world))["replicate"] == (await long(world, "replicate"))["status"] == "fail")

    await asked_again(world, 1, shown)
    told = await long(world, "replicate")
    assert told["error"] == told["probe"]["error"] == "401: You did not pass a valid authentication token"
    assert told["breaker"]["state"] == "closed"


async def test_an_endpoint_that_is_shut_says_so_and_its_provider_is_well(world: Any, adapters: Adapters) -> None:
    now = datetime.now(UTC)
    await adapters.gate("fal", Breaker(PROVIDER, now))
    await adapters.gate(
        "fal", record_failure(Breaker("gone/model", now), FailureKind.MODEL_NOT_FOUND, "404: no such app", now)
    )
    patient = blocked(Breaker("slow/model", now), now + timedelta(seconds=30))
    await adapters.gate("fal", patient)
    await world.outdate_reads()
    told = await long(world)
    assert told["status"] == "ok"
    endpoints = {
        each["endpoint"]: each for each in told["endpoints"] if each["endpoint"] in ("gone/model", "slow/model")
    }
    assert [(name, each["status"], each["breaker"]["state"]) for name, each in endpoints.items()] == [
        ("gone/model", "fail", "open"), ("slow/model", "ok", "closed"),
    ]  # fmt: skip
    assert endpoints["gone/model"]["last_error"]["kind"] == "model_not_found"
    assert endpoints["slow/model"]["breaker"]["blocked_until"] is not None


async def test_what_is_in_flight_and_what_waits_is_counted_with_the_caps(world: Any, adapters: Adapters) -> None:
    for n, state in enumerate(("submitting", "running", "running", "ambiguous", "queued", "queued")):
        await adapters.attempt("fal", f"live-{n}", state, throttling_reported=n == 5)
    await adapters.attempt("fal", "elsewhere", "cancelling", endpoint="other/model")
    await adapters.attempt("fal", "over", "succeeded", due=False)
    await adapters.attempt("fal", "late", "failed")
    await world.outdate_reads()
    told = await long(world)
    assert told["in_flight"] == {
        "total": 5, "submitting": 1, "running": 2, "collecting": 0, "cancelling": 1, "ambiguous": 1,
    }  # fmt: skip
    assert (told["queued"]["total"], told["queued"]["held_back"], told["late"]) == (2, 1, 1)
    assert told["queued"]["oldest_at"] is not None
    assert told["caps"] == {"concurrent_runs": 2, "submits_per_minute": 6}
    loads = {each["endpoint"]: each["in_flight"]["total"] for each in told["endpoints"]}
    assert (loads["test/model"], loads["other/model"]) == (4, 1)


async def test_whether_webhooks_are_heard_of_late(world: Any, adapters: Adapters) -> None:
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
    assert (await long(world))["webhooks"] == {"expected": 2, "heard": 1, "arriving": True}
    assert (await long(world, "replicate"))["webhooks"] == {"expected": 0, "heard": 0, "arriving": None}


async def test_how_attempts_went_of_late_is_told_from_their_events(
    world: Any, adapters: Adapters, story_of: Any
) -> None:
    before = {provider: (await long(world, provider))["recent"] for provider in ("fal", "replicate")}
    job_id = (await world.post()).json()["job_id"]
    await world.store(*story_of(job_id).attempts())
    await world.outdate_reads()
    fal, replicate = (await long(world))["recent"], (await long(world, "replicate"))["recent"]
    assert fal["failed"] == before["fal"]["failed"] + 1
    kind = "insufficient_balance"
    assert fal["kinds"][kind] == before["fal"]["kinds"].get(kind, 0) + 1
    assert fal["provider_error_rate"] == fal["provider_failed"] / (fal["provider_failed"] + fal["succeeded"])
    assert replicate["succeeded"] == before["replicate"]["succeeded"] + 1
    assert 0 <= replicate["p50_s"] <= replicate["p95_s"]


async def test_an_adapter_that_never_ran_is_told_as_such(world: Any) -> None:
    await world.outdate_reads()
    told = await long(world)
    assert (told["status"], told["error"], told["probe"]) == ("fail", "no news from fal-adapter yet", None)
    assert told["breaker"] == {
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


async def test_a_flood_of_questions_is_one_read() -> None:
    reads, go_on = 0, asyncio.Event()

    async def read() -> int:
        nonlocal reads
        reads += 1
        await go_on.wait()
        return reads

    fresh = SingleFlight(read, within_s=60)
    flood = [asyncio.create_task(fresh.get()) for _ in range(100)]
    await asyncio.sleep(0)
    go_on.set()
    assert set(await asyncio.gather(*flood)) == {1}
    assert await fresh.get() == 1


async def test_a_flood_waits_for_one_failure_and_no_longer_than_it_may() -> None:
    reads, go_on = 0, asyncio.Event()

    async def read() -> int:
        nonlocal reads
        reads += 1
        await go_on.wait()
        raise OSError("away")

    fresh = SingleFlight(read, within_s=60)
    flood = [asyncio.create_task(fresh.get()) for _ in range(100)]
    await asyncio.sleep(0)
    go_on.set()
    assert {type(outcome) for outcome in await asyncio.gather(*flood, return_exceptions=True)} == {OSError}
    assert reads == 1
    with pytest.raises(OSError, match="away"):
        await fresh.get()
    assert reads == 2
    go_on.clear()
    hasty = SingleFlight(read, within_s=0.1)
    outcomes = await asyncio.gather(*(hasty.get() for _ in range(100)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TimeoutError}


async def test_what_was_read_before_is_not_told_for_long() -> None:
    reads = iter(range(100))

    async def read() -> int:
        return next(reads)

    now = SingleFlight(read, within_s=60, at_most_old_s=-1)
    assert [await now.get(), await now.get()] == [0, 1]
    assert AT_MOST_OLD_S <= 0.5
