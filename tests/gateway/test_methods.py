"""HEAD is GET without the body; OPTIONS and 405 list the methods; also over a socket."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.patience import patient

from chassis.http.server import serve_http
from contracts.ids import attempt_id_for, job_id_for
from gateway.app import api

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = job_id_for("nobody", "x")
PLACES = (
    "/api/jobs",
    "/api/jobs?limit=1",
    "/api/jobs?limit=x",
    "/api/tracks",
    "/api/attempts",
    "/api/models",
    "/api/providers",
    "/api/health/providers",
    "/livez",
    "/readyz",
    "/docs",
    "/docs/assets/docs.js",
    "/docs/assets/vendor/swagger-ui.css",
    "/docs/assets/nothing.js",
    "/openapi.json",
    f"/api/jobs/{UNKNOWN}",
    f"/api/jobs/{UNKNOWN}/logs",
    f"/api/jobs/{UNKNOWN}/artifacts/track.mp3",
    f"/api/tracks/{UNKNOWN}",
    f"/api/attempts/{attempt_id_for(UNKNOWN, 1)}",
    "/api/nothing",
    "/",
)
# These differ from one GET to the next.
VOLATILE = {"date", "content-length"}


@pytest.mark.parametrize("path", PLACES)
async def test_head_is_get_without_its_body(world: Any, path: str) -> None:
    whole, head = await world.client.get(path), await world.client.head(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    left_out = VOLATILE if path == "/api/providers" else {"date"}
    answers = [{k: v for k, v in answer.headers.items() if k not in left_out} for answer in (head, whole)]
    assert answers[0] == answers[1]


async def test_head_of_a_changing_resource_works(world: Any) -> None:
    head = await world.client.head("/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/plain")
    made = (await world.post()).json()
    for url in made["links"].values():
        whole, head = await world.client.get(url), await world.client.head(url)
        assert dict(head.headers) == dict(whole.headers)
        assert head.content == b""


ALLOWED = [
    ("/api/tracks", "GET, HEAD, OPTIONS, POST"),
    ("/api/jobs", "GET, HEAD, OPTIONS"),
    (f"/api/jobs/{UNKNOWN}", "GET, HEAD, OPTIONS"),
    (f"/api/jobs/{UNKNOWN}/cancel", "OPTIONS, POST"),
    (f"/api/jobs/{UNKNOWN}/artifacts/track.mp3", "GET, HEAD, OPTIONS"),
    (f"/api/attempts/{attempt_id_for(UNKNOWN, 1)}/resolve", "OPTIONS, POST"),
    (f"/api/callbacks/fal/{attempt_id_for(UNKNOWN, 1)}/{'0' * 64}", "OPTIONS, POST"),
    ("/api/models", "GET, HEAD, OPTIONS"),
    ("/livez", "GET, HEAD, OPTIONS"),
    ("/metrics", "GET, HEAD, OPTIONS"),
    ("/docs", "GET, HEAD, OPTIONS"),
    ("/docs/assets/docs.js", "GET, HEAD, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"),
]


@pytest.mark.parametrize(("path", "allow"), ALLOWED)
async def test_an_unsupported_method_is_a_405_with_the_supported_ones(world: Any, path: str, allow: str) -> None:
    answers = await world.client.options(path)
    assert (answers.status_code, answers.content, answers.headers["allow"]) == (204, b"", allow)
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - set(allow.split(", ")):
        answer = await world.client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allow), method
        if method != "HEAD":
            assert answer.json()["type"] == "urn:segue:problem:method-not-allowed"


async def test_options_of_an_unknown_path_is_a_404(world: Any) -> None:
    answer = await world.client.options("/api/nothing")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:segue:problem:not-found")


async def test_a_head_of_a_client_that_traces_is_one_span_with_its_own_name(world: Any) -> None:
    world.spans.clear()
    await world.client.head(f"/api/jobs/{UNKNOWN}")
    assert world.spans.get_finished_spans() == ()
    traced = {"traceparent": f"00-{'a' * 32}-00f067aa0ba902b7-01"}
    await world.client.head(f"/api/jobs/{UNKNOWN}", headers=traced)
    [span] = world.spans.get_finished_spans()
    assert (span.name, span.attributes["http.request.method"]) == ("HEAD /api/jobs/{job_id}", "HEAD")


async def test_a_connection_can_be_used_after_a_head(world: Any) -> None:
    async with (
        serve_http(api(world.parts), "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=httpx.Limits(max_connections=1)) as client,
    ):
        for path in (*PLACES, "/metrics"):
            head, whole = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (whole.status_code, b"")
            if path not in ("/metrics", "/api/providers"):
                assert head.headers["content-length"] == whole.headers["content-length"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), patient(5))
        writer.close()
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"\nallow: get, head, options, post\r" in answer.lower()


async def test_a_path_with_a_line_break_is_no_resource(world: Any) -> None:
    answer = await world.client.post("/api/tracks%0A", json={"prompt": "Warm ambient pad"})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:segue:problem:not-found")
