"""The gateway while PostgreSQL or Kafka is down, and with endless bodies."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.patience import patient

from chassis.http.server import serve_http
from contracts.ids import attempt_id_for, job_id_for, track_id_for
from gateway.app import api
from gateway.context import TENANT
from segue_cli.local.kafka import kafka
from segue_cli.local.postgres import LocalPostgres, postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN = job_id_for(TENANT, "nobody knows")
UNKNOWN_PATHS = (f"/api/jobs/{UNKNOWN}", f"/api/jobs/{UNKNOWN}/logs", f"/api/tracks/{track_id_for(UNKNOWN)}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database() -> AsyncIterator[LocalPostgres]:
    async with postgres() as server:
        yield server


async def dependency(world: Any, name: str) -> dict[str, Any]:
    """What the gateway says about something that it depends on."""
    page = await world.client.get("/readyz")
    assert "127.0.0.1" not in page.text
    found: dict[str, Any] = page.json()["dependencies"][name]
    return found


async def kafka_is(world: Any, status: str) -> bool:
    return bool((await dependency(world, "kafka"))["status"] == status)


async def problem_at(world: Any, path: str) -> tuple[int, str]:
    answer = await world.client.get(path)
    return answer.status_code, answer.json()["type"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_without_postgresql_requests_are_still_accepted(
    database: LocalPostgres, world_on: Any, topic_sizes: dict[str, int], tmp_path: Path, until: Any
) -> None:
    async with kafka(topic_sizes) as cluster, world_on(cluster.bootstrap_servers, database.url, tmp_path) as world:
        before = await world.post(idempotency_key="before")
        await database.stop("immediate")
        try:
            accepted = await world.post(idempotency_key="during")
            assert accepted.status_code == 202
            assert (await world.post(idempotency_key="during")).content == accepted.content
            assert (await world.post(idempotency_key="before")).content == before.content
            other = await world.post({"prompt": "another"}, idempotency_key="during")
            assert other.status_code == 422
            job = await world.client.get(f"/api/jobs/{accepted.json()['job_id']}")
            assert (job.status_code, job.json()["stale"]) == (200, True)
            track = await world.client.get(f"/api/tracks/{accepted.json()['track_id']}")
            assert (track.status_code, track.json()["stale"]) == (200, True)
            log = await world.client.get(f"/api/jobs/{accepted.json()['job_id']}/logs")
            assert [entry["event"] for entry in log.json()["entries"]] == ["job.requested"]
            for path in (f"/api/jobs/{job_id_for(TENANT, 'nobody knows')}", "/api/jobs", "/api/tracks"):
                unknown = await world.client.get(path)
                assert unknown.status_code == 503
                assert unknown.json()["type"] == "urn:segue:problem:read-model-away"
            stopped = await world.client.post(
                f"/api/jobs/{accepted.json()['job_id']}/cancel", headers={"prefer": "wait=0"}
            )
            assert (stopped.status_code, stopped.json()["stale"]) == (202, True)
            assert stopped.json()["cancel"]["effect"] == "pending"
            attempt_id = attempt_id_for(accepted.json()["job_id"], 1)
            for answer in (
                await world.client.post(f"/api/jobs/{job_id_for(TENANT, 'nobody knows')}/cancel"),
                await world.client.get("/api/attempts"),
                await world.client.get(f"/api/attempts/{attempt_id}"),
                await world.client.post(f"/api/attempts/{attempt_id}/resolve", json={"never_accepted": True}),
            ):
                assert (answer.status_code, answer.json()["type"]) == (503, "urn:segue:problem:read-model-away")
            assert (await world.client.get("/api/jobs/not-an-id")).status_code == 404
            health = await world.client.get("/api/health/providers")
            assert (health.status_code, health.json()["type"]) == (503, "urn:segue:problem:read-model-away")

            async def ready() -> bool:
                return bool((await world.client.get("/readyz")).status_code == 200)

            await until(ready)
            assert (await dependency(world, "database"))["status"] == "fail"
        finally:
            await database.start()

        async def back() -> bool:
            return bool((await world.client.get("/api/jobs")).status_code == 200)

        await until(back)
        assert (await dependency(world, "database"))["status"] == "ok"
        job = await world.client.get(f"/api/jobs/{accepted.json()['job_id']}")
        assert (job.status_code, job.json()["stale"]) == (200, False)


async def test_without_kafka_it_says_so_within_five_seconds_and_a_repeat_is_safe(
    database: LocalPostgres, world_on: Any, topic_sizes: dict[str, int], tmp_path: Path, until: Any, story_of: Any
) -> None:
    port = free_port()
    async with kafka(topic_sizes, port=port) as cluster:
        servers = cluster.bootstrap_servers
        world = await (context := world_on(servers, database.url, tmp_path)).__aenter__()
        taken_on = (await world.post()).json()["job_id"]
    try:
        began = time.monotonic()
        refused, keyless, uncancelled = await asyncio.gather(
            world.post(idempotency_key="again"), world.post(), world.client.post(f"/api/jobs/{taken_on}/cancel")
        )
        assert time.monotonic() - began < patient(5)
        assert (uncancelled.status_code, uncancelled.json()["type"]) == (503, "urn:segue:problem:not-confirmed")
        assert "repeating it is safe" in uncancelled.json()["detail"]
        assert (await world.client.get(f"/api/jobs/{taken_on}")).json()["cancel"] is None
        assert {await problem_at(world, path) for path in UNKNOWN_PATHS} == {(503, "urn:segue:problem:events-away")}
        for response in (refused, keyless):
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
            problem = response.json()
            assert problem["type"] == "urn:segue:problem:not-confirmed"
            assert "may have stored it" in problem["detail"]
            assert "Idempotency-Key" in problem["detail"]
            assert problem["idempotency_key"] == response.headers["idempotency-key"]
        assert refused.json()["idempotency_key"] == "again"
        assert (await world.post({"prompt": "another"}, idempotency_key="again")).status_code == 422
        await until(lambda: kafka_is(world, "fail"))
        async with kafka(topic_sizes, port=port):
            await until(lambda: kafka_is(world, "ok"))

            async def taken() -> bool:
                return bool((await world.post(idempotency_key="again")).status_code == 202)

            await until(taken)
            accepted = await world.post(idempotency_key="again")
            assert accepted.json()["job_id"] == job_id_for(TENANT, "again")
            repeated = await world.post(idempotency_key=keyless.json()["idempotency_key"])
            assert repeated.status_code == 202
            story = story_of(accepted.json()["job_id"])
            await world.publish(*story.jobs())

            async def tailed() -> bool:
                job = await world.client.get(accepted.json()["links"]["job"])
                return bool(job.json()["status"] == "succeeded")

            await until(tailed)
            assert world.parts.runtime.unhealthy() is None
    finally:
        await context.__aexit__(None, None, None)


async def send(port: int, head: str, chunks: int, size: int, *, chunked: bool) -> bytes:
    """Send a body in pieces over a plain socket until the server answers; returns the answer's head.

    A stream of asyncio's would drop an answer that it has not read yet as soon as a write fails.
    """
    piece = b" " * size
    line = b"%x\r\n%s\r\n" % (size, piece) if chunked else piece
    loop, answer = asyncio.get_running_loop(), b""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setblocking(False)
        async with asyncio.timeout(patient(60)):
            with suppress(ConnectionError):
                await loop.sock_sendall(client, head.encode())
                for _ in range(chunks):
                    if select.select([client], [], [], 0)[0]:
                        break
                    await loop.sock_sendall(client, line)
            while b"\r\n\r\n" not in answer:
                received = await loop.sock_recv(client, 65536)
                assert received, f"it closed after {answer!r}"
                answer += received
    return answer


async def test_an_endless_body_is_cut_off(
    database: LocalPostgres, world_on: Any, topic_sizes: dict[str, int], tmp_path: Path
) -> None:
    async with (
        kafka(topic_sizes) as cluster,
        world_on(cluster.bootstrap_servers, database.url, tmp_path) as world,
        serve_http(api(world.parts), "127.0.0.1", 0) as port,
    ):
        head = "POST /api/tracks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        chunked = await send(port, head + "Transfer-Encoding: chunked\r\n\r\n", 100_000, 65536, chunked=True)
        assert chunked.startswith(b"HTTP/1.1 413 ")
        assert b"application/problem+json" in chunked
        declared = await send(port, head + "Content-Length: 262145\r\n\r\n", 0, 0, chunked=False)
        assert declared.startswith(b"HTTP/1.1 413 ")
        fits = await send(port, head + "Content-Length: 262144\r\n\r\n", 4, 65536, chunked=False)
        assert fits.startswith(b"HTTP/1.1 400 ")
