"""The limits of a listener over real sockets: the answer at each limit, and the requests that stay unaffected."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.patience import patient

from chassis.http.server import serve_http
from chassis.http.turns import MAX_IN_PROGRESS
from chassis.settings.http_limits import HttpLimits

SMALL = HttpLimits(
    connections=20,
    request_line_bytes=512,
    header_bytes=2048,
    headers=20,
    header_timeout_s=0.5,
    body_timeout_s=0.8,
    body_rate=100,
    idle_timeout_s=0.6,
    write_timeout_s=0.8,
    buffered_bytes=10_000_000,
)
PATIENT = replace(SMALL, header_timeout_s=60, body_timeout_s=60, idle_timeout_s=60, write_timeout_s=60)
HOST = b"Host: segue\r\n"
GET = b"GET /ok HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + HOST
HELD = b"GET /held HTTP/1.1\r\n" + HOST + b"\r\n"
ASKS_LARGE = b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n"
ABSOLUTE = (b"http://example.com", b"http://example.com?x=1", b"http://[::1]:80")
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
LARGE = 300 * 65_536
WITHIN_S = 30.0
"""The longest wait for an expected condition, in seconds."""


@dataclass
class Site:
    """An application that records its requests; `/held` waits until the test sets `go_on`."""

    port: int = 0
    arrived: list[str] = field(default_factory=list)
    echoed: int = 0
    cut_off: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    held: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def app(self) -> Starlette:
        routes = {"/": self._root, "/ok": self._ok, "/large": self._large, "/events": self._events, "/held": self._held}
        echo = Route("/echo", self._echo, methods=["POST"])
        return Starlette(routes=[echo, *(Route(path, handler) for path, handler in routes.items())])

    async def _root(self, request: Request) -> Response:
        self.arrived.append(request.url.query)
        return PlainTextResponse("root")

    async def _ok(self, request: Request) -> Response:
        self.arrived.append(request.url.query)
        return PlainTextResponse("fine")

    async def _echo(self, request: Request) -> Response:
        self.echoed += 1
        try:
            body = await request.body()
        except ClientDisconnect:
            self.cut_off += 1
            return PlainTextResponse("the application's word")
        self.headers = dict(request.headers)
        return JSONResponse({"bytes": len(body)})

    async def _large(self, _request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(LARGE // 65_536):
                yield bytes(65_536)

        return StreamingResponse(pieces(), headers={"Content-Length": str(LARGE)})

    async def _held(self, _request: Request) -> Response:
        self.held += 1
        await self.go_on.wait()
        return PlainTextResponse("at last")

    async def _events(self, _request: Request) -> Response:
        async def ticks() -> AsyncIterator[bytes]:
            for n in range(15):
                yield b"data: %d\n\n" % n
                await asyncio.sleep(0.2)

        return StreamingResponse(ticks(), media_type="text/event-stream")


@asynccontextmanager
async def site(limits: HttpLimits = PATIENT) -> AsyncIterator[Site]:
    made = Site()
    async with serve_http(made.app(), "127.0.0.1", 0, limits=limits) as made.port:
        yield made
        made.go_on.set()


@dataclass
class Client:
    """One raw TCP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        with suppress(RuntimeError):  # uvloop's, if the server has closed the connection already.
            self.writer.write(data)

    async def head(self) -> bytes:
        async with asyncio.timeout(WITHIN_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> bytes:
        """One answer with its body."""
        head = await self.head()
        length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
        async with asyncio.timeout(WITHIN_S):
            return head + await self.reader.readexactly(length)

    async def rest_or_answer(self) -> bytes:
        """One answer, or the bytes received before the server closed the connection."""
        try:
            return await self.answer()
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def rest(self) -> bytes:
        """All bytes until the server closes the connection."""
        data = b""
        async with asyncio.timeout(WITHIN_S):
            try:
                while chunk := await self.reader.read(65_536):
                    data += chunk
            except ConnectionError:
                pass
        return data


@asynccontextmanager
async def connected(site: Site, address: str = "127.0.0.1", limit: int = 2**16) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, local_addr=(address, 0), limit=limit)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def crowd(
    site: Site, size: int, sent: bytes, address: str = "127.0.0.1", limit: int = 2**16
) -> AsyncIterator[list[Client]]:
    """`count` connected clients that have each sent `sent`."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(site, address, limit)) for _ in range(size)]
        for client in clients:
            client.send(sent)
        yield clients


async def last_answer(site: Site, data: bytes) -> tuple[int, str]:
    """The status and the problem type of the last answer before the server closes the connection."""
    async with connected(site) as client:
        client.send(data)
        return verdict(await client.rest())


def verdict(answers: bytes) -> tuple[int, str]:
    last = answers[answers.rindex(b"HTTP/1.1 ") :]
    head, _, body = last.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    problem = json.loads(body)
    assert problem["status"] == int(head[9:12])
    assert problem["detail"]
    return problem["status"], problem["type"].removeprefix("urn:segue:problem:")


def open_connections() -> float:
    return REGISTRY.get_sample_value("segue_http_connections") or 0.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - the server signals no change of its state
            await asyncio.sleep(0.01)


async def fine(site: Site, address: str = "127.0.0.1") -> bool:
    """Whether an ordinary request is answered."""
    async with connected(site, address) as client:
        client.send(GET)
        return (await client.answer()).endswith(b"fine")


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        (b"GET /ok HTTP/1.1\r\nX: " + b"a" * 3000 + b"\r\n\r\n", 431, "headers-too-large"),
        (b"GET /ok HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(25)) + b"\r\n", 431, "headers-too-large"),
        (b"GET /ok HTTP/1.1\r\n" + b"a:b\r\n" * 400, 431, "headers-too-large"),
        (b"GET /ok?" + b"a" * 600 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "request-line-too-long"),
        (b"GET /" + b"a" * 600, 414, "request-line-too-long"),
        (b"GET " + b" " * 5000, 431, "headers-too-large"),
        (b"\r\n" * 5000, 400, "malformed-request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300), 400, "malformed-request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed-request"),
        (bytes(range(128, 256)) * 10, 400, "malformed-request"),
        (b"GET /ok HTTP/1.1\nHost: segue\n\n", 400, "malformed-request"),
        (b"GET /\xe4 HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"GET http:// HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"GET http://?x HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"GET http:///ok HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"GET http://a:99999/ HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"POST http://a:99999/ HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 400, "malformed-request"),
        (b"GET http://a:/ HTTP/1.1\r\n" + OFFER + b"\r\n", 400, "malformed-request"),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "malformed-request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "malformed-request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 200_000, 400, "body-framing"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nX\r\n0\r\nA: " + b"a" * 200_000, 400, "body-framing"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nX\r\n0\r\n" + b"a: b\r\n" * 30, 431, "headers-too-large"),
        (
            b"GET /ok HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
            400,
            "no-websocket",
        ),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 501, "no-tunnel"),
    ],
)
async def test_a_request_over_a_limit_is_answered_and_the_connection_closed(
    sent: bytes, status: int, kind: str
) -> None:
    async with site() as here:
        assert await last_answer(here, sent) == (status, kind)
        assert await fine(here)
    assert here.arrived == [""]


async def test_the_limits_hold_for_requests_sent_in_small_pieces() -> None:
    async with site() as here, connected(here) as client:
        client.send(b"GET /ok HTTP/1.1\r\n" + HOST + b"X: ")
        for _ in range(300):
            client.send(b"a" * 10)
            await asyncio.sleep(0)
        assert verdict(await client.rest()) == (431, "headers-too-large")


async def test_a_request_just_within_the_limits_is_served() -> None:
    headers = b"".join(b"X-%d: 1\r\n" % n for n in range(18))
    async with site() as here, connected(here) as client:
        client.send(b"GET /ok?" + b"a" * 500 + b" HTTP/1.1\r\n" + HOST + headers + b"X: " + b"b" * 1800 + b"\r\n\r\n")
        assert (await client.answer()).endswith(b"fine")
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nX\r\n" * 50_000 + b"0\r\n\r\n")
        assert (await client.answer()).endswith(b'{"bytes":50000}')


async def test_a_header_of_300_megabytes_is_not_buffered() -> None:
    taken = 0
    async with site() as here, connected(here) as client:
        client.send(b"GET /ok HTTP/1.1\r\nX: ")
        try:
            while taken < 300_000_000:
                client.send(b"a" * 65_536)
                await client.writer.drain()
                taken += 65_536
        except ConnectionError:
            pass
        assert taken < 20_000_000
        assert await fine(here)


async def test_trailers_are_not_read_as_headers() -> None:
    async with site() as here, connected(here) as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nIdempotency-Key: mine\r\n\r\n")
        assert (await client.answer()).endswith(b'{"bytes":2}')
        assert "idempotency-key" not in here.headers


@pytest.mark.parametrize("drip", [b"", b"a"])
async def test_the_header_timeout_covers_all_headers_however_they_arrive(drip: bytes) -> None:
    async with site(SMALL) as here, connected(here) as client:
        client.send(b"GET /ok HTTP/1.1\r\nX: ")
        began = time.monotonic()
        answer = asyncio.create_task(client.rest())
        while not answer.done():
            client.send(drip)
            await asyncio.wait({answer}, timeout=patient(0.05))
        assert verdict(await answer) == (408, "headers-too-slow")
        assert time.monotonic() - began >= 0.4


async def test_the_timeout_of_the_next_headers_starts_with_their_first_byte() -> None:
    async with site(replace(PATIENT, header_timeout_s=0.5)) as here, connected(here) as client:
        client.send(GET)
        await client.answer()
        await asyncio.sleep(1)
        client.send(b"GET /ok ")
        assert verdict(await client.rest()) == (408, "headers-too-slow")


async def test_a_connection_that_sends_nothing_is_closed_without_an_answer() -> None:
    async with site(SMALL) as here, connected(here) as client:
        assert await client.rest() == b""


async def test_an_idle_connection_is_closed() -> None:
    async with site(SMALL) as here, connected(here) as client:
        client.send(GET)
        await client.answer()
        began = time.monotonic()
        assert await client.rest() == b""
        assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("drip", [b"", b" "])
@pytest.mark.parametrize(("length", "begun"), [(5000, 0), (2_000_000, 1)])
async def test_a_body_has_a_time_limit_and_its_reader_gets_a_disconnect(drip: bytes, length: int, begun: int) -> None:
    async with site(SMALL) as here, connected(here) as client:
        client.send(POST + b"Content-Length: %d\r\n\r\n{" % length)
        answer = asyncio.create_task(client.rest())
        while not answer.done():
            client.send(drip)
            await asyncio.wait({answer}, timeout=patient(0.05))
        assert verdict(await answer) == (408, "body-too-slow")
        await until(lambda: here.cut_off == begun)
    assert here.echoed == begun


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Content-Length: 5\r\nExpect: 100-continue"])
async def test_a_request_is_started_once_its_body_is_complete(framing: bytes) -> None:
    async with site() as here, connected(here) as client:
        client.send(POST + framing + b"\r\n\r\n")
        if b"Expect" in framing:
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hell")
        await fine(here)
        assert here.echoed == 0
        client.send(b"o" + GET)
        assert (await client.answer()).endswith(b'{"bytes":5}')
        assert (await client.answer()).endswith(b"fine")


async def test_a_body_too_large_to_buffer_is_read_by_the_application() -> None:
    piece = b"10000\r\n" + bytes(65_536) + b"\r\n"
    async with site() as here, connected(here) as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + piece * 5)
        await until(lambda: here.echoed == 1)
        client.send(piece * 3 + b"0\r\n\r\n")
        assert (await client.answer()).endswith(b'{"bytes":%d}' % (8 * 65_536))


async def test_a_body_above_the_minimum_rate_has_no_time_limit() -> None:
    async with site(replace(SMALL, body_timeout_s=4)) as here, connected(here) as client:
        client.send(POST + b"Content-Length: 3000\r\n\r\n")
        for _ in range(30):
            client.send(b"a" * 100)
            await asyncio.sleep(0.1)
        assert (await client.answer()).endswith(b'{"bytes":3000}')


async def test_a_client_that_expects_100_continue_gets_it_and_the_body_timeout_applies() -> None:
    expecting = POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with site(SMALL) as here, connected(here) as client, connected(here) as silent:
        client.send(expecting)
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"{}")
        assert (await client.answer()).endswith(b'{"bytes":2}')
        silent.send(expecting)
        assert verdict(await silent.rest()) == (408, "body-too-slow")


async def test_a_body_that_nobody_reads_is_not_waited_for() -> None:
    async with site() as here, connected(here) as client:
        client.send(b"POST /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000000\r\n\r\n" + b"a" * 1000)
        answer = await client.rest()
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 404 ")
    # Otherwise the client may send its next request on the connection, which is about to be closed.
    assert b"connection: close" in head
    assert answer.endswith(b"Not Found")


async def test_a_client_that_does_not_read_is_dropped_and_one_that_reads_slowly_is_not() -> None:
    async with site(SMALL) as here, connected(here, limit=1) as deaf, connected(here, limit=1) as slow:
        for client in (deaf, slow):
            client.send(b"GET /large HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        began, got = time.monotonic(), 0
        async with asyncio.timeout(WITHIN_S):
            while chunk := await slow.reader.read(100_000):
                got += len(chunk)
                await asyncio.sleep(0.01)
        assert time.monotonic() - began > SMALL.write_timeout_s
        assert got > LARGE
        assert len(await deaf.rest()) < LARGE


async def test_event_streams_and_slow_requests_are_never_closed() -> None:
    async with site(SMALL) as here, connected(here) as events, connected(here) as waiting:
        events.send(b"GET /events HTTP/1.1\r\n" + HOST + b"\r\n")
        waiting.send(b"GET /held HTTP/1.1\r\n" + HOST + b"Prefer: wait=60\r\n\r\n")
        stream = (await events.rest()).decode()
        assert "data: 14" in stream
        assert stream.endswith("0\r\n\r\n")
        here.go_on.set()
        assert (await waiting.answer()).endswith(b"at last")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with site() as here, connected(here) as client:
        client.send(b"".join(b"GET /ok?%d HTTP/1.1\r\n" % n + HOST + b"\r\n" for n in range(4)))
        for _ in range(4):
            assert (await client.answer()).endswith(b"fine")
    assert here.arrived == ["0", "1", "2", "3"]


async def test_all_pipelined_requests_are_answered_however_many() -> None:
    async with site() as here, connected(here) as client:
        client.send(b"".join(b"GET /ok?%d HTTP/1.1\r\n" % n + HOST + b"\r\n" for n in range(3000)))
        for _ in range(3000):
            assert (await client.answer()).endswith(b"fine")
    assert here.arrived == [str(n) for n in range(3000)]


async def test_a_request_followed_by_invalid_bytes_is_answered() -> None:
    async with site() as here, connected(here) as client:
        client.send(b"GET /held HTTP/1.1\r\n" + HOST + b"\r\n" + bytes(100))
        await until(lambda: here.held == 1)
        client.send(bytes(100_000))
        here.go_on.set()
        assert (await client.answer()).endswith(b"at last")
        assert verdict(await client.rest()) == (400, "malformed-request")


@pytest.mark.parametrize(
    "bad",
    [
        bytes(100),
        b"GET http://a:99999/ HTTP/1.1\r\n\r\n",
        b"POST http://a:99999/ HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"GET http://a:99999/ HTTP/1.1\r\n" + OFFER + b"\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_requests_before_an_invalid_one_are_answered(bad: bytes) -> None:
    whole = POST + b"Content-Length: 2\r\n\r\n"
    async with site() as here, connected(here) as client, connected(here) as halved:
        client.send(HELD + whole + b"{}" + GET + bad + GET)
        halved.send(whole + b"{")
        await until(lambda: here.held == 1)
        halved.send(b"}" + bad + GET)
        here.go_on.set()
        assert (await client.answer()).endswith(b"at last")
        assert (await client.answer()).endswith(b'{"bytes":2}')
        assert (await client.answer()).endswith(b"fine")
        assert verdict(await client.rest()) == (400, "malformed-request")
        assert (await halved.answer()).endswith(b'{"bytes":2}')
        assert verdict(await halved.rest()) == (400, "malformed-request")
    assert here.arrived == [""]


@pytest.mark.parametrize("before", [b"", GET])
async def test_an_absolute_url_without_a_path_requests_the_root(before: bytes) -> None:
    async with site() as here, connected(here) as client:
        client.send(before + b"".join(b"GET %s HTTP/1.1\r\n" % url + HOST + b"\r\n" for url in ABSOLUTE))
        answers = [await client.answer() for _ in range(len(ABSOLUTE) + bool(before))]
        assert all(answer.endswith(b"root") for answer in answers[bool(before) :])
        client.send(b"GET http://example.com/ok?y HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.answer()).endswith(b"fine")
        client.send(b"GET HTTP://example.com " + b"HTTP/1.1\r\n" + OFFER + b"\r\n")
        assert (await client.answer()).endswith(b"root")
    assert here.arrived == [""] * bool(before) + ["", "x=1", "", "y", ""]


async def test_http2_is_declined_and_the_body_kept() -> None:
    async with site() as here, connected(here) as client:
        client.send(POST + OFFER + b"Content-Length: 5\r\n\r\nhello")
        assert (await client.answer()).endswith(b'{"bytes":5}')
        client.send(GET)
        assert (await client.answer()).endswith(b"fine")


async def test_a_waiting_connection_is_closed_for_a_new_one() -> None:
    async with site() as here, crowd(here, 60, b"GET /ok "):
        for _ in range(10):
            assert await fine(here)


async def test_an_idle_kept_alive_connection_is_not_the_first_to_be_closed() -> None:
    async with site() as here, connected(here) as kept:
        for _ in range(10):
            kept.send(GET)
            assert (await kept.answer()).endswith(b"fine")
            async with crowd(here, 30, b"GET /ok "):
                pass


async def test_a_request_in_progress_is_not_closed_and_the_next_client_waits_for_it() -> None:
    async with site() as here, crowd(here, SMALL.connections, HELD) as clients:
        await until(lambda: here.held == SMALL.connections)
        next_one = asyncio.create_task(fine(here))
        done, _ = await asyncio.wait({next_one}, timeout=patient(0.5))
        assert not done
        here.go_on.set()
        assert await next_one
        answers = [await client.rest_or_answer() for client in clients]
        assert all(answer.endswith(b"at last") for answer in answers)


async def test_pipelined_requests_do_not_keep_a_place_from_waiting_clients() -> None:
    async with site() as here, crowd(here, SMALL.connections, HELD + GET) as clients:
        await until(lambda: here.held == SMALL.connections)
        async with crowd(here, 5, HELD) as waiting:
            await asyncio.sleep(0.3)
            here.go_on.set()
            answers = [await client.rest() for client in clients]
            assert all(answer.endswith(b"at last") for answer in answers)
            assert all([(await client.answer()).endswith(b"at last") for client in waiting])
        assert await fine(here)
    assert len(here.arrived) == 1


async def test_a_request_whose_client_left_keeps_its_place_until_it_is_done() -> None:
    async with site() as here:
        async with crowd(here, SMALL.connections, HELD):
            await until(lambda: here.held == SMALL.connections)
        next_one = asyncio.create_task(fine(here))
        done, _ = await asyncio.wait({next_one}, timeout=patient(0.5))
        assert not done
        here.go_on.set()
        assert await next_one


async def test_one_address_cannot_take_all_places() -> None:
    limits = replace(PATIENT, connections_per_peer=3, trusted=())
    async with site(limits) as here, crowd(here, 3, HELD, "127.0.0.7") as clients:
        await until(lambda: here.held == 3)
        async with connected(here, "127.0.0.7") as one_too_many:
            assert verdict(await one_too_many.rest()) == (429, "too-many-connections")
        assert await fine(here, "127.0.0.8")
        here.go_on.set()
        for client in clients:
            assert (await client.answer()).endswith(b"at last")
        # The first of the waiting ones is closed for the next connection of the same address.
        assert await fine(here, "127.0.0.7")
        closed = [asyncio.create_task(client.rest()) for client in clients]
        done, _ = await asyncio.wait(closed, timeout=WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1


async def test_trusted_addresses_are_not_counted() -> None:
    async with site(replace(PATIENT, connections_per_peer=3)) as here, crowd(here, 10, HELD):
        await until(lambda: here.held == 10)
        assert await fine(here)


@pytest.mark.parametrize("forwarded", [False, True], ids=["themselves", "through a proxy"])
async def test_a_client_with_too_many_requests_at_once_is_refused_and_others_are_not(forwarded: bool) -> None:
    def by(client: bytes) -> bytes:
        return GET[:-2] + b"X-Forwarded-For: " + client + b"\r\n\r\n" if forwarded else GET

    async with site(replace(PATIENT, connections=500)) as here, crowd(here, 200, by(b"192.0.2.7")) as greedy:
        async with crowd(here, 3, by(b"192.0.2.8"), "127.0.0.1" if forwarded else "127.0.0.8") as others:
            assert all([(await client.answer()).endswith(b"fine") for client in others])
        answers = [await client.answer() for client in greedy]
    away = [answer for answer in answers if not answer.endswith(b"fine")]
    assert 0 < len(away) < 100
    assert {verdict(answer) for answer in away} == {(503, "too-many-requests-wait")}
    assert all(b"retry-after: " in answer for answer in away)
    assert len(here.arrived) == 203 - len(away)


@pytest.mark.parametrize(
    "forwarded", [b"192.0.2.7:80", b"unknown:x", b"a:b:c", b":::", b"x" * 2000, b"\xff:\xfe", b" , "]
)
async def test_a_request_is_answered_whatever_the_forwarded_header_of_a_trusted_proxy(forwarded: bytes) -> None:
    async with site(replace(PATIENT, header_bytes=4096)) as here, connected(here) as client:
        client.send(GET[:-2] + b"X-Forwarded-For: " + forwarded + b"\r\n\r\n")
        assert (await client.answer()).endswith(b"fine")


async def test_slow_requests_do_not_block_others() -> None:
    async with site(replace(PATIENT, connections=400)) as here, crowd(here, 3 * MAX_IN_PROGRESS, HELD):
        await until(lambda: here.held == 3 * MAX_IN_PROGRESS)
        assert await fine(here)


async def test_the_bytes_buffered_for_all_connections_are_bounded() -> None:
    begun, before = POST + b"Content-Length: 60000\r\n\r\n" + b"a" * 30_000, open_connections()
    async with site(replace(PATIENT, buffered_bytes=300_000, connections=500)) as here, crowd(here, 30, begun) as all_:
        await until(lambda: before < open_connections() <= before + 10)
        rest = b"a" * 30_000
        for client in all_:
            client.send(rest)
        answers = [await client.rest_or_answer() for client in all_]
        assert any(answer.endswith(b'{"bytes":60000}') for answer in answers)


@pytest.mark.parametrize(
    "ahead",
    [
        (GET[:-2] + b"a:\r\n" * 95 + b"\r\n") * 16,
        (GET[:-2] + b"X: " + b"a" * 3500 + b"\r\n\r\n") * 16,
        POST + b"Content-Length: 60001\r\n\r\n" + bytes(60_000),
        GET[:-2] + b"X: " + b"a" * 30_000,
    ],
    ids=["many headers", "large headers", "half a body", "half of large headers"],
)
async def test_pipelined_bytes_count_as_buffered(ahead: bytes) -> None:
    limits = replace(PATIENT, connections=500, headers=100, header_bytes=32_768, buffered_bytes=500_000)
    async with site(limits) as here:
        await fine(here)
        tracemalloc.start()
        try:
            async with crowd(here, 100, HELD) as clients:
                await until(lambda: here.held == 100)
                alone = tracemalloc.get_traced_memory()[0]
                for client in clients:
                    client.send(ahead)
                    await asyncio.sleep(0.01)
                assert tracemalloc.get_traced_memory()[0] - alone < 1_000_000
                here.go_on.set()
                answers = [await client.answer() for client in clients]
                assert all(answer.endswith(b"at last") for answer in answers)
                assert verdict(await clients[0].rest()) == (429, "too-many-pipelined")
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("rest", [b"", b"{"])
async def test_the_body_timeout_of_a_pipelined_request_starts_with_its_turn(rest: bytes) -> None:
    async with site(SMALL) as here, connected(here) as client:
        client.send(GET + POST + b"Content-Length: 5000\r\n\r\n" + rest)
        assert (await client.answer()).endswith(b"fine")
        assert verdict(await client.rest()) == (408, "body-too-slow")


NOT_READING = {
    "more requests": (ASKS_LARGE * 2, GET),
    "more requests than are taken": (ASKS_LARGE, GET * 1000),
    "half a request": (ASKS_LARGE, b"GET /"),
    "noise at once": (ASKS_LARGE + bytes(10), b""),
    "noise": (ASKS_LARGE, bytes(100_000)),
    "half a body at once": (GET + POST + b"Content-Length: 5000\r\n\r\n{", b""),
}


@pytest.mark.parametrize(("sent", "then"), NOT_READING.values(), ids=NOT_READING)
async def test_a_client_that_does_not_read_is_closed_for_a_new_one_whatever_it_sends(sent: bytes, then: bytes) -> None:
    async with site() as here, crowd(here, SMALL.connections, sent, limit=1) as clients:
        await asyncio.sleep(0.3)
        for client in clients:
            client.send(then)
        for _ in range(10):
            assert await fine(here)


@pytest.mark.parametrize(("sent", "then"), NOT_READING.values(), ids=NOT_READING)
async def test_a_client_that_does_not_read_is_closed_in_time_whatever_it_sends(sent: bytes, then: bytes) -> None:
    before = open_connections()
    async with site(SMALL) as here, crowd(here, SMALL.connections // 2, sent, limit=1) as clients:
        for _ in range(5):
            await asyncio.sleep(0.1)
            for client in clients:
                client.send(then)
        await until(lambda: open_connections() == before)


async def test_the_server_stops_at_once_although_clients_hold_connections() -> None:
    async with AsyncExitStack() as running:
        here = await running.enter_async_context(site())
        async with crowd(here, 5, b"GET /ok ") as halves, crowd(here, 5, bytes(10)):
            began = time.monotonic()
            await running.aclose()
            assert time.monotonic() - began < patient(5)
            assert [await half.rest() for half in halves] == [b""] * 5
