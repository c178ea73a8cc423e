"""Jobs with the provider and the modality of a distribution; `test_new_provider` runs this with it installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
import yaml
from tests.builders import job_requested
from tests.new_provider import adapter
from tests.patience import eventually

import log_sink.app
import orchestrator.app
from adapter_kit.settings import AdapterSettings
from chassis.http.server import serve_http
from chassis.kafka.broker import publish
from chassis.observability.telemetry import make_telemetry
from chassis.runtime.runtime import Consuming, Runtime
from contracts.catalogue import default_catalogue_path
from contracts.envelope import encode
from contracts.ids import JobId, job_id_for
from contracts.messages.requests import JobRequested
from gateway.app import api, wired
from gateway.context import TENANT, Gateway
from gateway.settings import GatewaySettings
from log_sink.settings import SinkSettings
from orchestrator.settings import OrchestratorSettings

MODELS = Path(__file__).with_name("models.yaml")
TRACEPARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@dataclass(frozen=True)
class System:
    """All services in this process, except the adapters of other providers."""

    gateway: Gateway
    client: httpx.AsyncClient
    quill: adapter.QuillApi

    async def ended(self, job_id: str) -> dict[str, Any]:
        async def over() -> dict[str, Any]:
            job: dict[str, Any] = (await self.client.get(f"/api/jobs/{job_id}")).json()
            return job if job.get("status") in ("succeeded", "failed", "cancelled") else {}

        return await eventually(over)


def runtime(service: str) -> Runtime:
    return Runtime(service, make_telemetry(service, None), consuming=Consuming(1.5, 20))


def catalogue(folder: Path) -> Path:
    """The built-in catalogue with the entries of the distribution."""
    own, more = (yaml.safe_load(path.read_text()) for path in (default_catalogue_path(), MODELS))
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump({part: own[part] | more[part] for part in ("defaults", "models")}))
    return path


@asynccontextmanager
async def running(given: Mapping[str, Any], models: Path) -> AsyncIterator[System]:
    quill = adapter.QuillApi()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve_http(quill.app(), "127.0.0.1", 0))
        store: dict[str, Any] = {"artifact_store_url": (models.parent / "artifacts").as_uri()}
        settings = AdapterSettings(**given, **store)
        for service in (
            log_sink.app.app(SinkSettings(**given, **store), runtime("log-sink")),
            orchestrator.app.app(OrchestratorSettings(**given, catalogue=models), runtime("orchestrator")),
            adapter.app(settings, runtime("quill-adapter"), f"http://127.0.0.1:{port}"),
        ):
            await stack.enter_async_context(service)
        parts = await stack.enter_async_context(
            wired(GatewaySettings(**given, **store, catalogue=models), runtime("gateway"))
        )
        transport = httpx.ASGITransport(app=api(parts))
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://gateway"))
        yield System(parts, client, quill)


@pytest_asyncio.fixture
async def system(embedded_kafka: str, database_url: str, tmp_path: Path) -> AsyncIterator[System]:
    (tmp_path / "artifacts").mkdir()
    given = {
        "_env_file": None,
        "kafka_bootstrap_servers": embedded_kafka,
        "database_url": database_url,
        "port": 0,
    }
    async with running(given, catalogue(tmp_path)) as made:
        yield made


def sketch_requested() -> JobRequested:
    now = datetime.now(UTC)
    sketch = {"modality": "sketch", "prompt": "A lighthouse"}
    job_id = job_id_for(TENANT, "a sketch")
    return job_requested(job_id, now, tenant=TENANT, input=sketch, accept_by=now + timedelta(minutes=5))


async def artifact(system: System, job_id: JobId | str, name: str) -> bytes:
    return (await system.client.get(f"/api/jobs/{job_id}/artifacts/{name}")).content


async def test_jobs_go_through_a_new_provider_and_a_new_modality(system: System) -> None:
    song = await system.client.post(
        "/api/tracks", json={"prompt": "Warm ambient pad", "model": "music/quill-1", "providers": ["quill"]}
    )
    assert song.status_code == 202, song.text
    asked = sketch_requested()
    await (await publish(system.gateway.publisher.broker, encode(asked, source="gateway", traceparent=TRACEPARENT)))

    made = await system.ended(song.json()["job_id"])
    drawn = await system.ended(asked.job_id)
    assert [(job["status"], job["provider"], job["cost_usd"]) for job in (made, drawn)] == [
        ("succeeded", "quill", 0.02),
        ("succeeded", "quill", 0.01),
    ]
    assert await artifact(system, made["id"], "audio.wav") == (adapter.SAMPLES / "a.wav").read_bytes()
    assert await artifact(system, drawn["id"], "image.png") == (adapter.SAMPLES / "a.png").read_bytes()
    assert sorted(str(run["endpoint"]) for run in system.quill.runs) == ["quill/sketch", "quill/song"]

    health = (await system.client.get("/api/health/providers")).json()
    assert (health["quill"], health["quill_error"]) == ("ok", None)
    schemas = (await system.client.get("/openapi.json")).json()["components"]["schemas"]
    assert "quill" in schemas["TrackRequest"]["properties"]["providers"]["anyOf"][0]["items"]["enum"]
