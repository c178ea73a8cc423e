"""The answers of the gateway, and their times, while PostgreSQL accepts connections but does not respond."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio

from chaos.cluster.proxy import Proxy
from contracts.ids import attempt_id_for, job_id_for
from gateway.context import TENANT
from gateway.queries import database, provider_status
from gateway.queries.errors import ReadModelUnavailable
from segue_cli.local.kafka import kafka
from segue_cli.local.postgres import LocalPostgres, postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 5.0
SLACK_S = 8.0
"""For a slow machine; without a limit on the whole request, an answer took over 30 s."""
UNKNOWN = job_id_for(TENANT, "nobody knows")
AWAY = (503, "urn:segue:problem:read-model-away")
READS = [
    f"/api/jobs/{UNKNOWN}",
    f"/api/jobs/{UNKNOWN}/logs",
    f"/api/jobs/{UNKNOWN}/artifacts/track.mp3",
    "/api/jobs",
    f"/api/tracks/{UNKNOWN}",
    "/api/tracks",
    f"/api/attempts/{attempt_id_for(UNKNOWN, 1)}",
    "/api/attempts?ambiguous=true",
    "/api/providers",
    "/api/health/providers",
]


@contextmanager
def in_time(limit_s: float = LIMIT_S) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit_s + SLACK_S


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database_server() -> AsyncIterator[LocalPostgres]:
    async with postgres() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    database_server: LocalPostgres,
    world_on: Any,
    topic_sizes: dict[str, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Proxy, Any]]:
    """A gateway, and the proxy between it and its database."""
    place = urlsplit(database_server.url)
    async with (
        kafka(topic_sizes) as cluster,
        Proxy(place.hostname or "", place.port or 0).running() as proxy,
    ):
        url = place._replace(netloc=f"{place.username}@127.0.0.1:{proxy.listens_at}").geturl()
        async with world_on(cluster.bootstrap_servers, url, tmp_path_factory.mktemp("silence")) as world:
            yield proxy, world


@pytest_asyncio.fixture(loop_scope="module")
async def silenced(shared: tuple[Proxy, Any], until: Any) -> AsyncIterator[tuple[Proxy, Any]]:
    """The same, with a working network at the start of each test."""
    proxy, world = shared
    yield proxy, world
    proxy.heal()
    await until(partial(reads_again, world), 20)


async def reads_again(world: Any) -> bool:
    return bool((await world.client.get("/api/jobs")).status_code == 200)


async def status_and_type(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"]


async def test_each_read_fails_in_time_and_works_again_afterwards(
    silenced: tuple[Proxy, Any], until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, world = silenced

    async def timed(path: str) -> tuple[tuple[int, str], float]:
        began = time.monotonic()
        return await status_and_type(await world.client.get(path)), time.monotonic() - began

    async def statuses() -> list[int]:
        return [(await world.client.get(path)).status_code for path in READS]

    before = await statuses()
    monkeypatch.setattr(provider_status, "STALE_AFTER", timedelta(0))
    await world.outdate_reads()
    proxy.blackhole = True
    first = dict(zip(READS, await asyncio.gather(*map(timed, READS)), strict=True))
    assert {path: what for path, (what, _) in first.items() if what != AWAY} == {}
    assert {path: took_s for path, (_, took_s) in first.items() if took_s > LIMIT_S + SLACK_S} == {}
    # Further requests together take no longer than one, since the silence is known.
    with in_time():
        assert {await status_and_type(await world.client.get(path)) for path in READS for _ in range(9)} == {AWAY}
    with in_time():
        flood = await asyncio.gather(*(world.client.get(path) for path in READS for _ in range(10)))
    assert {await status_and_type(answer) for answer in flood} == {AWAY}
    proxy.heal()

    async def answers_again() -> bool:
        return await statuses() == before

    await until(answers_again, 20)


@pytest.mark.parametrize("silence", ["blackhole", "drop_responses"])
async def test_jobs_are_accepted_and_found_in_time(silenced: tuple[Proxy, Any], silence: str) -> None:
    proxy, world = silenced
    assert (await world.post(idempotency_key=f"before {silence}")).status_code == 202
    setattr(proxy, silence, True)
    with in_time():
        accepted = await world.post(idempotency_key=f"during {silence}")
        assert accepted.status_code == 202
    job_id, track_id = accepted.json()["job_id"], accepted.json()["track_id"]
    with in_time():
        assert (await world.post(idempotency_key=f"during {silence}")).content == accepted.content
    for path in (f"/api/jobs/{job_id}", f"/api/tracks/{track_id}"):
        with in_time():
            found = await world.client.get(path)
            assert (found.status_code, found.json()["stale"]) == (200, True)
    with in_time():
        log = await world.client.get(f"/api/jobs/{job_id}/logs")
        assert [entry["event"] for entry in log.json()["entries"]] == ["job.requested"]
    with in_time():
        cancelled = await world.client.post(f"/api/jobs/{job_id}/cancel", headers={"prefer": "wait=0"})
        assert (cancelled.status_code, cancelled.json()["stale"]) == (202, True)
    attempt = f"/api/attempts/{attempt_id_for(job_id, 1)}/resolve"
    with in_time():
        assert await status_and_type(await world.client.post(attempt, json={"never_accepted": True})) == AWAY


async def test_a_wait_for_the_end_lasts_no_longer_than_requested(silenced: tuple[Proxy, Any]) -> None:
    proxy, world = silenced
    proxy.blackhole = True
    with in_time(LIMIT_S + 2):
        accepted = await world.post(idempotency_key="during", prefer="wait=2")
    assert (accepted.status_code, accepted.headers["preference-applied"]) == (202, "wait=2")
    with in_time(LIMIT_S + 2):
        cancelled = await world.client.post(
            f"/api/jobs/{accepted.json()['job_id']}/cancel", headers={"prefer": "wait=2"}
        )
    assert cancelled.status_code == 202


@asynccontextmanager
async def locked(url: str, *tables: str) -> AsyncIterator[None]:
    """Lock the tables against reading, as ALTER TABLE does."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {', '.join(tables)}")
            yield
    finally:
        await connection.close()


async def test_locked_tables_delay_only_the_requests_that_read_them(
    silenced: tuple[Proxy, Any], database_server: LocalPostgres, until: Any
) -> None:
    _proxy, world = silenced
    async with locked(database_server.url, "log_sink.jobs", "log_sink.tracks"):
        for path in ("/api/jobs", "/api/tracks", f"/api/jobs/{UNKNOWN}/logs"):
            with in_time():
                assert await status_and_type(await world.client.get(path)) == AWAY
        assert (await world.client.get("/api/health/providers")).status_code == 200
        with in_time():
            assert (await world.post(idempotency_key="meanwhile")).status_code == 202
    # On a slow machine the server may count as silent for a moment, as none of its answers came in time.
    await until(partial(reads_again, world), 20)


async def test_the_last_health_is_shown_for_a_minute_and_is_then_unknown(
    silenced: tuple[Proxy, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, world = silenced
    before = (await world.client.get("/api/health/providers")).json()
    assert before["fal_error"] == "no report from fal-adapter yet"
    await world.outdate_reads()
    proxy.blackhole = True
    cached = await world.client.get("/api/health/providers")
    assert (cached.status_code, cached.json()["fal"]) == (200, "fail")
    assert cached.json()["fal_error"].startswith("no report from fal-adapter yet (as of ")
    assert cached.json()["fal_error"].endswith(" s ago: the database is unavailable)")
    monkeypatch.setattr(provider_status, "STALE_AFTER", timedelta(0))
    unknown = await world.client.get("/api/health/providers")
    assert await status_and_type(unknown) == AWAY
    assert int(unknown.headers["retry-after"]) > 0
    assert "whether the providers accept our key" in unknown.json()["detail"]


async def test_a_request_has_one_time_limit_for_all_its_queries(
    silenced: tuple[Proxy, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, world = silenced
    monkeypatch.setattr(database, "SURE_AFTER_S", math.inf)  # The silence is never taken for certain.
    proxy.blackhole = True
    database.begin_request()
    with in_time(database.READ_LIMIT_S):
        for _ in range(5):
            with pytest.raises(ReadModelUnavailable):
                await world.parts.lookup.job(UNKNOWN, TENANT)
