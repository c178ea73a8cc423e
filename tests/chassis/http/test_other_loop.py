"""An app whose requests are handled on another event loop than that of the server."""

from __future__ import annotations

import asyncio
import threading

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from tests.chassis.toy import runtime_for
from tests.patience import patient

from chassis.http.health import serve_health
from chassis.http.other_loop import OnLoop
from chassis.settings.http_limits import HttpLimits


async def test_requests_are_handled_on_the_loop_of_the_app_while_there_is_one() -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"thread": threading.current_thread().name, "body": (await request.body()).decode()})

    async def slow(_request: Request) -> PlainTextResponse:
        entered.set()
        await go.wait()
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/echo", echo, methods=["POST"]), Route("/slow", slow)])
    others = OnLoop()
    async with (
        serve_health(runtime_for(), "127.0.0.1", 0, limits=HttpLimits().health, others=others) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=patient(60)) as client,
    ):
        assert (await client.post("/echo")).status_code == 503
        async with others.serving(app):
            told = (await client.post("/echo", content=b"x" * 100_000)).json()
            assert told == {"thread": threading.current_thread().name, "body": "x" * 100_000}
            assert (await client.get("/livez")).json() == {"status": "ok"}
            assert (await client.get("/nothing")).status_code == 404
            under_way = asyncio.create_task(client.get("/slow"))
            await asyncio.wait_for(entered.wait(), patient(30))
            asyncio.get_running_loop().call_soon(go.set)
        assert (await under_way).text == "done"
        answer = await client.post("/echo")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
