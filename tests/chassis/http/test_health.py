"""Health pages on a thread of their own: answered while the event loop is busy, and they report a blocked loop."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress

import pytest
from tests.chassis.toy import runtime_for
from tests.patience import patient

from chassis.errors import CannotStart
from chassis.http import health
from chassis.http.health import serve_health
from chassis.settings.http_limits import HEALTH_CONNECTIONS, HttpLimits

LIMITS = HttpLimits().health


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=patient(20)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_the_pages_show_the_state_of_the_process() -> None:
    runtime = runtime_for()
    dead: list[str] = []
    runtime.must_live(lambda: dead[0] if dead else None)

    async def says(path: str, status: int, text: str) -> None:
        async with asyncio.timeout(patient(20)):
            while True:
                answer = await asyncio.to_thread(page, port, path)
                if answer[0] == status and text in answer[1]:
                    return
                await asyncio.sleep(0.05)

    async with serve_health(runtime, "127.0.0.1", 0, limits=LIMITS) as port:
        assert await asyncio.to_thread(page, port, "/livez") == (200, '{"status":"ok"}')
        await says("/readyz", 503, "starting")
        runtime.started = True
        await says("/readyz", 200, "ok")
        await says("/metrics", 200, "segue_http_connections")
        dead.append("the fetch task")
        await says("/livez", 503, "the fetch task")
        dead.clear()
        runtime.stopping.set()
        await says("/readyz", 503, "stopping")
        await says("/livez", 200, "ok")
    assert [thread.name for thread in threading.enumerate() if thread.name == "health"] == []


async def test_the_pages_answer_while_the_loop_is_blocked_and_finally_report_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "STALE_S", 1.5)
    async with serve_health(runtime_for(), "127.0.0.1", 0, limits=LIMITS) as port:
        # Everything from here on blocks the event loop.
        assert page(port, "/livez")[0] == 200
        deadline = time.monotonic() + 20
        while page(port, "/livez")[0] == 200:
            assert time.monotonic() < deadline
        assert "the event loop has been blocked for" in page(port, "/livez")[1]
        assert page(port, "/readyz")[0] == 503


async def test_a_check_that_raises_makes_the_process_unhealthy() -> None:
    runtime = runtime_for()

    def broken() -> str | None:
        raise RuntimeError("no such partition")

    runtime.must_live(broken)
    async with serve_health(runtime, "127.0.0.1", 0, limits=LIMITS) as port:
        status, said = await asyncio.to_thread(page, port, "/livez")
    assert status == 503
    assert "no such partition" in said


async def test_many_open_connections_do_not_exhaust_the_pages() -> None:
    async with serve_health(runtime_for(), "127.0.0.1", 0, limits=LIMITS) as port:
        strangers = [socket.create_connection(("127.0.0.1", port)) for _ in range(3 * HEALTH_CONNECTIONS)]
        try:
            for stranger in strangers:
                with suppress(ConnectionError):  # The first ones may have been closed for the last ones.
                    stranger.send(b"GET /li")
            for _ in range(5):
                assert (await asyncio.to_thread(page, port, "/livez"))[0] == 200
        finally:
            for stranger in strangers:
                stranger.close()


async def test_an_address_in_use_is_reported_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"^SEGUE_HEALTH_PORT: 127.0.0.1:{port} cannot be listened on: "):
            async with serve_health(runtime_for(), "127.0.0.1", port, limits=LIMITS):
                pytest.fail("it can't have started")
