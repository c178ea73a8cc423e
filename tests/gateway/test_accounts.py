"""What is counted and logged of requests to the API: bounded labels, one access line each, and exemplars."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs
from tests.patience import patient

from chassis.http.server import HEALTH_PATHS, serve_http
from chassis.observability.telemetry import Telemetry
from contracts.callback_urls import callback_url
from contracts.ids import attempt_id_for, job_id_for
from gateway.app import api
from gateway.context import TENANT
from gateway.http.accounts import METHODS, Accounts
from gateway.log_events import GatewayEvent
from gateway.metrics import HTTP_REQUEST_SECONDS
from gateway.settings import GatewaySettings

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "0123456789abcdef0123456789abcdef"
JOB = job_id_for(TENANT, "accounts")

Line = MutableMapping[str, Any]


@pytest.fixture
def access_lines() -> Iterator[list[Line]]:
    """All records; access lines are among them."""
    with capture_logs() as logs:
        yield logs


def served(logs: list[Line]) -> list[Line]:
    return [line for line in logs if line["event"] is GatewayEvent.REQUEST_SERVED]


def counted() -> dict[tuple[str, str, str], float]:
    """The number of requests by method, route and status."""
    [family] = [each for each in REGISTRY.collect() if each.name == "segue_http_requests"]
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def new_since(before: dict[tuple[str, str, str], float]) -> dict[tuple[str, str, str], float]:
    return {labels: n - before.get(labels, 0) for labels, n in counted().items() if n != before.get(labels, 0)}


def timed(method: str, route: str) -> float:
    return REGISTRY.get_sample_value("segue_http_request_seconds_count", {"method": method, "route": route}) or 0


async def test_a_request_is_counted_by_its_template_and_status(world: Any) -> None:
    before, timed_before = counted(), timed("GET", "/api/jobs/{job_id}")
    accepted = (await world.post()).json()
    for job_id in (accepted["job_id"], JOB):
        await world.client.get(f"/api/jobs/{job_id}")
    await world.client.head(f"/api/jobs/{JOB}/logs")
    await world.client.delete("/api/tracks")
    await world.client.get("/docs")
    assert new_since(before) == {
        ("POST", "/api/tracks", "202"): 1,
        ("GET", "/api/jobs/{job_id}", "200"): 1,
        ("GET", "/api/jobs/{job_id}", "404"): 1,
        ("HEAD", "/api/jobs/{job_id}/logs", "404"): 1,
        ("DELETE", "/api/tracks", "405"): 1,
        ("GET", "/docs", "200"): 1,
    }
    assert timed("GET", "/api/jobs/{job_id}") == timed_before + 2


async def test_a_thousand_paths_and_methods_add_no_labels(world: Any) -> None:
    drawn = random.Random(7)
    await world.client.get("/nowhere")
    before = counted()
    methods = [*sorted(METHODS), "BREW", "TRACE", "PROPFIND"]
    for _ in range(1000):
        word = "".join(drawn.choices(string.ascii_letters + string.digits + "-._~%2F", k=drawn.randint(1, 40)))
        path = drawn.choice(["/", "/api/", "/api/nothing/", "/api/tracks/a/b/", "/metrics/", "/docs-"]) + "q" + word
        await world.client.request(drawn.choice(["".join(drawn.choices(string.ascii_uppercase, k=6)), *methods]), path)
    new = new_since(before)
    assert sum(new.values()) == 1000
    assert {route for _, route, _ in new} == {"other"}
    assert {method for method, _, _ in new} == METHODS | {"other"}
    assert {status for _, _, status in new} == {"404"}


async def test_health_pages_are_neither_counted_nor_logged(world: Any, access_lines: list[Line]) -> None:
    before = counted()
    for path in HEALTH_PATHS:
        assert (await world.client.get(path)).status_code == 200
    assert (new_since(before), served(access_lines)) == ({}, [])


async def test_a_request_is_one_line_that_names_its_job_and_its_trace(world: Any, access_lines: list[Line]) -> None:
    answer = await world.post()
    job_id, trace_id = answer.json()["job_id"], answer.json()["trace_id"]
    [line] = served(access_lines)
    assert line["log_level"] == "info"
    assert line["duration_ms"] > 0
    assert {name: line[name] for name in ("method", "route", "path", "http_status", "response_bytes", "client")} == {
        "method": "POST",
        "route": "/api/tracks",
        "path": "/api/tracks",
        "http_status": 202,
        "response_bytes": len(answer.content),
        "client": "127.0.0.1",
    }
    assert (line["job_id"], line["trace_id"]) == (job_id, trace_id)


async def test_a_line_has_no_query_and_no_secret(world: Any, access_lines: list[Line]) -> None:
    attempt_id = attempt_id_for(JOB, 1)
    url = callback_url("http://gateway", SECRET, "fal", attempt_id)
    await world.client.post(url, json={"token": "hidden"})
    await world.client.get(f"/api/jobs/{JOB}", params={"token": "hidden"})
    await world.client.get("/api/jobs/hidden%1b[31m")
    callback, job, other = served(access_lines)
    assert callback["path"] == f"/api/callbacks/fal/{attempt_id}/***"
    assert (callback["route"], callback["job_id"]) == ("/api/callbacks/{provider}/{attempt_id}/{mac}", JOB)
    assert (job["path"], job["job_id"]) == (f"/api/jobs/{JOB}", JOB)
    assert other["job_id"] is None, "what is no id is not logged as one"
    mac = url.rpartition("/")[2]
    assert mac not in str([callback, job])
    assert "hidden" not in str([callback, job])


@pytest.mark.parametrize("access_log", ["on", "off"])
async def test_the_access_log_can_be_switched_off(world: Any, access_log: str) -> None:
    settings = GatewaySettings.model_validate({**world.parts.settings.model_dump(), "access_log": access_log})
    app = Accounts(api(world.parts), world.parts.runtime.telemetry, access_log=settings.access_log == "on")
    before = counted()
    with capture_logs() as logs:
        # Around an application with accounts of its own, which logs as its settings say.
        async with client_of(app) as client:
            await client.get("/nowhere")
    assert sum(new_since(before).values()) == 2
    assert [line["log_level"] for line in served(logs)] == ["info"] * (2 if access_log == "on" else 1)


async def test_the_exemplar_of_a_request_is_its_trace(world: Any) -> None:
    trace_id = (await world.post()).json()["trace_id"]
    page = await world.client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    [family] = [each for each in text_string_to_metric_families(page.text) if each.name == "segue_http_request_seconds"]
    found = {
        (sample.labels["method"], sample.labels["route"]): sample.exemplar.labels["trace_id"]
        for sample in family.samples
        if sample.exemplar is not None and sample.exemplar.labels["trace_id"] == trace_id
    }
    assert found == {("POST", "/api/tracks"): trace_id}


async def test_on_a_listener_a_line_has_the_client_and_no_trace_of_an_earlier_request(
    world: Any, access_lines: list[Line]
) -> None:
    async with (
        serve_http(api(world.parts), "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=patient(60)) as client,
    ):
        await client.get(f"/api/jobs/{JOB}")
        # A proxy on this machine is trusted.
        page = await client.get("/docs", headers={"X-Forwarded-For": "203.0.113.9"})
    api_line, page_line = served(access_lines)
    assert (api_line["client"], page_line["client"]) == ("127.0.0.1", "203.0.113.9")
    assert api_line["trace_id"] is not None
    assert page_line["trace_id"] is None
    assert page_line["response_bytes"] == len(page.content)


def client_of(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


def accounts(app: Any) -> Accounts:
    return Accounts(app, Telemetry(TracerProvider(), "gateway", exporting=True), access_log=True)


async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise asyncio.CancelledError


async def test_a_request_without_a_response_is_counted_as_499(access_lines: list[Line]) -> None:
    before = counted()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "GET", "path": "/api/tracks", "client": None}
    with pytest.raises(asyncio.CancelledError):
        await accounts(silent)(scope, asyncio.Queue[Message]().get, send)
    assert (new_since(before), sent) == ({("GET", "other", "499"): 1}, [])
    [line] = served(access_lines)
    assert (line["http_status"], line["client"], line["response_bytes"]) == (499, None, 0)


@pytest.mark.parametrize("ends", [True, False])
async def test_a_span_that_does_not_end_is_no_exemplar(ends: bool) -> None:
    tracer, route = TracerProvider().get_tracer("test"), f"/ends/{ends}"

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        scope["route"] = SimpleNamespace(path=route)
        with tracer.start_as_current_span("request", end_on_exit=ends):
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    async with client_of(accounts(app)) as client:
        await client.get("/")
    samples = HTTP_REQUEST_SECONDS.labels("GET", route)._samples()
    assert any(sample.exemplar is not None for sample in samples) is ends


async def test_an_unexpected_error_counts_as_500(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise LookupError("a fault of the program")

    monkeypatch.setattr(type(world.parts.lookup), "job", broken)
    before = counted()
    with capture_logs():
        assert (await world.client.get(f"/api/jobs/{JOB}")).status_code == 500
    assert new_since(before) == {("GET", "/api/jobs/{job_id}", "500"): 1}


async def test_the_span_of_an_earlier_request_is_not_taken_for_its_own(access_lines: list[Line]) -> None:
    app = FastAPI()
    app.get("/plain")(lambda: datetime.now(UTC))
    span = TracerProvider().get_tracer("test").start_span("an earlier request on the same connection")
    with trace.use_span(span):
        async with client_of(accounts(app)) as client:
            assert (await client.get("/plain")).status_code == 200
    [line] = served(access_lines)
    assert line["trace_id"] is None
