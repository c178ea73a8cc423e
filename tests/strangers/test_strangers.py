"""A few hundred hostile connections of each sort, and ordinary requests beside them.

`python -m tests.strangers` opens thousands, again and again.
"""

from __future__ import annotations

import asyncio

import httpx
import psutil
import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs
from tests.strangers.clients import strangers
from tests.strangers.sorts import SORTS

from chassis.http.server import serve_http
from chassis.settings.http_limits import HttpLimits
from gateway.places import SHARE, Places

STRANGERS = 300
LIMITS = HttpLimits(
    connections=60,
    header_timeout_s=1,
    body_timeout_s=2,
    idle_timeout_s=1,
    write_timeout_s=1,
    buffered_bytes=1_000_000,
)
HELD_S = 3.0
WITHIN_S = 60.0
MOST_RSS = 100_000_000


def app() -> Starlette:
    """A small application with the paths that the sorts request, and with waiting answers."""
    waiters = Places(LIMITS.connections // SHARE)

    async def short(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def long(_request: Request) -> Response:
        return Response(bytes(200_000))

    async def accept(request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)
        with waiters.one_more() as may:
            if may and "prefer" in request.headers:
                await asyncio.sleep(HELD_S)
        return JSONResponse({"bytes": len(body)})

    routes = [Route("/livez", short), Route("/api/jobs", short), Route("/openapi.json", long)]
    return Starlette(routes=[*routes, Route("/api/tracks", accept, methods=["POST"])])


def open_connections() -> float:
    connections = REGISTRY.get_sample_value("segue_http_connections")
    assert connections is not None
    return connections


@pytest.mark.parametrize("sort", SORTS)
async def test_ordinary_requests_are_answered_beside_hostile_ones_and_few_lines_are_logged(
    sort: str, caplog: pytest.LogCaptureFixture
) -> None:
    process = psutil.Process()
    before, others = process.memory_info().rss, open_connections()
    with capture_logs() as logs:
        async with serve_http(app(), "127.0.0.1", 0, limits=LIMITS) as port:
            async with strangers(SORTS[sort], port, STRANGERS, again=False) as counts, asyncio.timeout(WITHIN_S):
                while counts["opened"] < STRANGERS:  # noqa: ASYNC110 - counted by tasks
                    await asyncio.sleep(0.01)
                async with httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=WITHIN_S
                ) as client:
                    for n in range(10):
                        close = {"Connection": "close"} if n % 2 else {}
                        assert (await client.get("/api/jobs", headers=close)).json() == {"status": "ok"}
                        answer = await client.post(
                            "/api/tracks", content=b"x" * 50_000, headers={"Connection": "close"}
                        )
                        assert answer.json() == {"bytes": 50_000}
                assert process.memory_info().rss - before < MOST_RSS
            async with asyncio.timeout(WITHIN_S):
                while open_connections() > others:  # noqa: ASYNC110 - counted by the server
                    await asyncio.sleep(0.05)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    logged = [line for line in logs if line["event"] != "serving http"]
    assert len(logged) <= 6
    assert {line["event"] for line in logged} <= {"clients were turned away"}


async def test_hostile_connections_are_closed_after_the_header_timeout() -> None:
    """Even if no other client needs a connection."""
    async with (
        serve_http(app(), "127.0.0.1", 0, limits=LIMITS) as port,
        strangers(SORTS["half-headers"], port, 40, again=False) as counts,
        asyncio.timeout(WITHIN_S),
    ):
        while counts["408"] < 40:  # noqa: ASYNC110 - counted by tasks
            await asyncio.sleep(0.01)
