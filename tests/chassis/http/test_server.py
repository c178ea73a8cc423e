"""The health pages, and the start and stop of the HTTP server."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from tests.chassis.toy import runtime_for
from tests.patience import patient

from chassis.errors import CannotStart
from chassis.http.request_turns import HeadWithBody
from chassis.http.server import ShutdownGate, health_app, serve_http


async def test_the_pages_report_what_is_unhealthy_and_what_is_not_ready() -> None:
    runtime = runtime_for()
    dead: list[str] = []
    waiting: list[str] = []
    runtime.must_live(lambda: dead[0] if dead else None)
    runtime.must_be_ready(lambda: waiting[0] if waiting else None)
    async with (
        serve_http(health_app(runtime), "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=patient(60)) as client,
    ):

        async def answers(path: str) -> tuple[int, object]:
            response = await client.get(path)
            return response.status_code, response.json()

        fine = (200, {"status": "ok"})
        assert await answers("/livez") == fine
        assert await answers("/readyz") == (503, {"status": "fail", "reason": "starting"})
        runtime.started = True
        assert await answers("/readyz") == fine
        waiting.append("the tail is catching up")
        assert await answers("/readyz") == (503, {"status": "fail", "reason": "the tail is catching up"})
        assert await answers("/livez") == fine
        dead.append("the fetch task")
        assert await answers("/livez") == (503, {"status": "fail", "reason": "the fetch task"})
        runtime.stopping.set()
        assert await answers("/readyz") == (503, {"status": "fail", "reason": "stopping"})
        metrics = await client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=")
        for name in ("segue_messages_handled_total", "segue_dead_letters_total", "segue_outbox_published_total"):
            assert f"# TYPE {name} counter" in metrics.text
        assert (await client.post("/livez")).status_code == 405
        assert (await client.get("/nothing")).status_code == 404


async def test_it_installs_no_signal_handlers_and_finishes_the_current_request() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_request: Request) -> Response:
        arrived.set()
        await go_on.wait()
        return PlainTextResponse("done")

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with httpx.AsyncClient(timeout=patient(60)) as client:
        async with serve_http(Starlette(routes=[Route("/", slow)]), "127.0.0.1", 0) as port:
            answer = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
            await arrived.wait()
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
            asyncio.get_running_loop().call_later(0.2, go_on.set)
        assert (await answer).text == "done"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_request_that_does_not_end_is_abandoned_at_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.http.server.SHUTDOWN_S", 1)
    arrived = asyncio.Event()

    async def endless(_request: Request) -> Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with httpx.AsyncClient(timeout=patient(60)) as client:
        async with serve_http(Starlette(routes=[Route("/", endless)]), "127.0.0.1", 0) as port:
            answer = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
            await arrived.wait()
            began = time.monotonic()
        assert time.monotonic() - began < patient(5)
        left = await answer
    assert (left.status_code, left.headers["connection"]) == (503, "close")
    assert "whether this request was taken is not known" in left.json()["detail"]


async def test_requests_during_the_stop_are_refused_with_a_complete_answer() -> None:
    taken = []

    async def take(_request: Request) -> Response:
        taken.append(1)
        return PlainTextResponse("done")

    door = ShutdownGate(Starlette(routes=[Route("/", take, methods=["POST"])]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://segue") as client:
        assert (await client.post("/")).text == "done"
        door.closing = True
        answer = await client.post("/")
    assert (answer.status_code, answer.headers["connection"], answer.headers["retry-after"]) == (503, "close", "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "nothing of this request was taken" in answer.json()["detail"]
    assert taken == [1]


def test_a_head_is_sent_in_one_piece_with_the_beginning_of_its_body() -> None:
    sent: list[bytes] = []
    transport: Any = SimpleNamespace(write=sent.append, close=lambda: sent.append(b"closed"), is_closing=lambda: False)
    output = HeadWithBody(transport)
    output.write(b"continue ")
    output.holding = True
    for piece in (b"head ", memoryview(b"body "), b"more "):
        output.write(piece)
    output.close()
    assert sent == [b"continue ", b"head body ", b"more ", b"closed"]


async def test_the_head_of_an_answer_without_a_body_is_sent() -> None:
    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        length = b"7" if scope["path"] == "/fails" else b"0"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        if scope["path"] == "/fails":
            raise RuntimeError("there is no body")
        await send({"type": "http.response.body"})

    async def heard(request: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{request} HTTP/1.1\r\nHost: segue\r\nConnection: close\r\n\r\n".encode())
        heard = await asyncio.wait_for(reader.read(), patient(10))
        writer.close()
        return heard

    async with serve_http(answer, "127.0.0.1", 0) as port:
        for request in ("GET /", "HEAD /", "GET /fails"):
            assert (await heard(request)).startswith(b"HTTP/1.1 200 OK\r\n"), request


async def test_answers_are_sent_without_delay() -> None:
    async with (
        serve_http(health_app(runtime_for()), "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=patient(60)) as client,
    ):
        await client.get("/livez")
        times = []
        for _ in range(60):
            began = time.monotonic()
            await client.get("/livez")
            times.append(time.monotonic() - began)
    assert sorted(times)[5] < 0.035, "Nagle's algorithm and delayed acknowledgement would cost 40 ms each"


@pytest.mark.parametrize(
    ("host", "setting"),
    [("127.0.0.1", "SEGUE_PORT"), ("no-such-host.invalid", "SEGUE_HOST"), ("*", "SEGUE_HOST"), ("[::2]", "SEGUE_HOST")],
)
async def test_an_address_that_cannot_be_bound_is_reported_with_its_setting(host: str, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            CannotStart, match=f"^{setting}: {re.escape(host.strip('[]'))}:{port} cannot be listened on: "
        ):
            async with serve_http(health_app(runtime_for()), host, port):
                pytest.fail("it can't have started")
