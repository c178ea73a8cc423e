"""The gateway on a public network: a body that does not arrive, and the separate listener of the health pages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.gateway.test_attempts import lost
from tests.patience import patient

from chassis.http.server import serve_http
from chassis.observability.telemetry import Telemetry
from chassis.runtime.runtime import Runtime
from chassis.settings.http_limits import HttpLimits
from contracts.ids import job_id_for
from gateway.app import api, gateway_app
from gateway.context import TENANT
from gateway.settings import GatewaySettings
from segue_cli.local.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_body_that_does_not_arrive_in_time_is_answered_and_makes_no_job(world: Any) -> None:
    before = (await world.client.get("/api/jobs")).json()
    async with serve_http(api(world.parts), "127.0.0.1", 0, limits=HttpLimits(body_timeout_s=0.5)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /api/tracks HTTP/1.1\r\nHost: segue\r\nContent-Type: application/json\r\n")
        writer.write(b'Content-Length: 60\r\n\r\n{"prompt": "Warm ambient pad", "duration_s": 20')
        answer = await asyncio.wait_for(reader.read(), patient(30))
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:segue:problem:body-too-slow" in answer
    assert (await world.client.get("/api/jobs")).json() == before


def settings_at(world: Any, store: Path, **more: Any) -> GatewaySettings:
    return GatewaySettings(
        KAFKA_BOOTSTRAP_SERVERS=world.parts.settings.kafka_bootstrap_servers,
        DATABASE_URL=world.database_url,
        ARTIFACT_STORE_URL=store.as_uri(),
        _env_file=None,
        **more,
    )


@pytest.mark.parametrize("where", ["api", "health", "off"])
async def test_the_calls_of_operators_are_served_where_the_setting_says(
    world: Any, story_of: Any, tmp_path: Path, until: Any, where: str
) -> None:
    story = story_of(job_id_for(TENANT, f"operators at {where}"))
    at = {"api": free_port(), "health": free_port()}
    settings = settings_at(
        world, tmp_path, SEGUE_PORT=at["api"], SEGUE_HEALTH_PORT=at["health"], SEGUE_OPERATOR_CALLS=where
    )
    await world.store(*lost(story))
    provider = TracerProvider()
    runtime = Runtime("gateway", Telemetry(provider, "gateway", exporting=False))
    async with gateway_app(settings, runtime), httpx.AsyncClient(trust_env=False, timeout=patient(30)) as client:
        runtime.started = True
        attempt = f"api/attempts/{story.attempt(1)}"

        async def ready() -> bool:
            pages = [await client.get(f"http://127.0.0.1:{port}/readyz") for port in at.values()]
            return all(page.is_success for page in pages)

        await until(ready, 30)
        for listener, port in at.items():
            url = f"http://127.0.0.1:{port}/{attempt}"
            served = listener == where
            assert (await client.get(url)).status_code == (200 if served or listener == "api" else 404)
            collect = await client.post(f"{url}/collect")
            resolve = await client.post(f"{url}/resolve", json={"accepted": "r8x2k"})
            assert [collect.status_code, resolve.status_code] == ([409, 202] if served else [404, 404])
            if served:
                assert "r8x2k" in resolve.json()["message"]
                assert (await client.post(f"{url}/resolve", content=b"{" * 10_000)).status_code in (413, 415, 422)
            document = (await client.get(f"http://127.0.0.1:{at['api']}/openapi.json")).json()
            assert ("/api/attempts/{attempt_id}/resolve" in document["paths"]) is (where == "api")
        runtime.stopping.set()
    provider.shutdown()


async def test_the_health_pages_have_their_own_listener(world: Any, tmp_path: Path, until: Any) -> None:
    at: dict[str, Any] = {"SEGUE_PORT": free_port(), "SEGUE_HEALTH_PORT": free_port()}
    settings = settings_at(world, tmp_path, **at)
    provider = TracerProvider()
    runtime = Runtime("gateway", Telemetry(provider, "gateway", exporting=False))
    async with gateway_app(settings, runtime), httpx.AsyncClient(trust_env=False, timeout=patient(30)) as client:
        runtime.started = True
        for port in at.values():

            async def ready(port: int = port) -> bool:
                return (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success

            await until(ready, 30)
            assert (await client.get(f"http://127.0.0.1:{port}/livez")).json() == {"status": "ok"}
            assert "segue_http_connections" in (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        assert (await client.get(f"http://127.0.0.1:{at['SEGUE_PORT']}/api/jobs")).status_code == 200
        assert (await client.get(f"http://127.0.0.1:{at['SEGUE_HEALTH_PORT']}/api/jobs")).status_code == 404
        runtime.stopping.set()
    provider.shutdown()
