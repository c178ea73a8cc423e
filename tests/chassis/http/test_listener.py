"""The listener accepts connections within the limit of open files, and logs little when it is reached."""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from tests.patience import patient

from chassis.http.listener import RESERVED_FILES, bind, places
from chassis.observability.log_events import HttpEvent

SERVER = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
import chassis.http.server
from chassis.settings.http_limits import HttpLimits
from chassis.observability.logs import configure_logs
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def ok(request):
    return PlainTextResponse("fine")

async def main():
    # More than there are files for, as where something else in the process has taken them.
    chassis.http.server.places = lambda wanted: wanted
    app = Starlette(routes=[Route("/ok", ok)])
    async with chassis.http.server.serve_http(app, "127.0.0.1", 0, limits=HttpLimits(connections=1000)) as port:
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)

configure_logs("test", "INFO")
asyncio.run(main())
"""


@asynccontextmanager
async def short_of_files() -> AsyncIterator[tuple[int, list[str]]]:
    """A server that may open a hundred files; yields its port and its output, which is complete after the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    written: list[str] = []
    async with asyncio.timeout(patient(60)):
        while not (line := (await process.stdout.readline()).decode()).strip().isdecimal():
            assert line, "it did not start"
    try:
        yield int(line), written
    finally:
        process.stdin.close()
        said, _ = await asyncio.wait_for(process.communicate(), patient(60))
        written += said.decode().splitlines()


async def test_a_process_without_free_files_keeps_answering_and_logs_it_once() -> None:
    async with short_of_files() as (port, written):
        halves = []
        try:
            for _ in range(400):
                halves.append(socket.create_connection(("127.0.0.1", port)))
                with suppress(ConnectionError):  # The first ones are closed for the last ones.
                    halves[-1].send(b"GET /o")
            async with httpx.AsyncClient(trust_env=False, timeout=patient(60)) as client:
                for _ in range(3):
                    assert (await client.get(f"http://127.0.0.1:{port}/ok")).text == "fine"
        finally:
            for half in halves:
                half.close()
    short = [line for line in written if HttpEvent.ACCEPT_FAILED in line]
    assert len(short) == 1
    assert "EMFILE" in short[0]
    assert len(written) < 10


def test_the_connection_limit_leaves_files_for_the_rest_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(limit: int, wanted: int = 2000) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
        return places(wanted)

    assert at(1024) == (1024 - RESERVED_FILES) // 2 == 416
    assert at(100_000) == 2000
    assert at(resource.RLIM_INFINITY) == 2000
    assert at(64) == 1


def test_accepted_sockets_inherit_the_options_of_the_listener() -> None:
    with bind("127.0.0.1", 0, "SEGUE_PORT") as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 65_536
