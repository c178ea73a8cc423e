"""What broke, and whether the request can have been sent: each case is real, at a server on this machine."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import httpx
import pytest
from tests.patience import eventually, patient

from adapter_kit.http import network
from adapter_kit.http.responses import NEVER_SENT, submit_outcome
from adapter_kit.http.transport import Exchange, RecordingTransport, exchange
from adapter_kit.port.outcomes import Accepted, Failure, NotSent, ProviderRef, Unclear
from contracts.failures import FailureKind
from sandbox.http.certificates import Certificates, make_certificates

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
LATER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n[404]"


@dataclass
class Server:
    """Records each request, and writes the answers one by one; `end` says what becomes of the connection then."""

    answers: list[bytes] = field(default_factory=lambda: [OK])
    end: str = "keep"
    """keep; close, reset or hang once there is no further answer; rude: reset before anything was read."""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    closed: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while self.end != "rude":
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.requests.append(head + await reader.readexactly(int(length or 0)))
                if len(self.requests) > len(self.answers) and self.end != "keep":
                    break
                writer.write(self.answers[min(len(self.requests), len(self.answers)) - 1])
                await writer.drain()
            if self.end == "hang":
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            if self.end in ("reset", "rude"):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            writer.close()


@asynccontextmanager
async def running(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    yield f"http{'s' if tls else ''}://localhost:{server.port}/run"
    listening.close()
    for writer in server.writers:
        writer.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    return context


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections stay open, however slow the machine."""
    monkeypatch.setattr(network, "KEEP_S", patient(60))


@dataclass
class Client:
    """Sends one request at a time or many, without an SDK."""

    transport: RecordingTransport

    async def post(self, url: str, method: str = "POST") -> Exchange:
        async def call() -> httpx.Response:
            return await self.transport.handle_async_request(httpx.Request(method, url, json={"prompt": "x"}))

        return await exchange(call(), patient(30))


@asynccontextmanager
async def opened(within_s: float = 20.0) -> AsyncIterator[Client]:
    transport = RecordingTransport((), patient(within_s), patient(within_s))
    try:
        yield Client(transport)
    finally:
        await transport.aclose()


async def until(holds: Callable[[], bool]) -> None:
    async def held() -> bool:
        return holds()

    await eventually(held, what=holds)


def outcome(done: Exchange) -> type:
    return type(
        submit_outcome(
            done, lambda answer: ProviderRef("run", {}), lambda answer: Failure(FailureKind.UNKNOWN, answer.text)
        )
    )


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/", "http://no-such-name.invalid/", "ftp://localhost/x"],
    ids=["refused", "refused-tls", "no-name", "no-http"],
)
async def test_without_a_connection_nothing_was_sent(url: str) -> None:
    with socket.socket() as bound:
        # It does not listen, and no other process gets its port meanwhile.
        bound.bind(("127.0.0.1", 0))
        async with opened() as client:
            done = await client.post(url.format(port=bound.getsockname()[1]))
    assert isinstance(done.error, NEVER_SENT)
    assert outcome(done) is NotSent
    assert "object at" not in str(done.error)


async def test_an_untrusted_certificate_means_that_nothing_was_sent(tls: ssl.SSLContext) -> None:
    server = Server()
    async with running(server, tls) as url, opened() as client:
        done = await client.post(url)
    assert isinstance(done.error, httpx.ConnectError)
    assert "CERTIFICATE_VERIFY_FAILED" in str(done.error)
    assert server.requests == []


async def test_a_server_without_tls_means_that_nothing_was_sent() -> None:
    server = Server()
    async with running(server) as url, opened(2) as client:
        done = await client.post(url.replace("http", "https"))
    assert outcome(done) is NotSent
    assert server.requests == []


async def test_a_handshake_that_does_not_end_is_a_connect_timeout() -> None:
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with opened(1) as client:
        done = await client.post(f"https://localhost:{listening.sockets[0].getsockname()[1]}/secret")
    silent.set()
    listening.close()
    assert isinstance(done.error, httpx.ConnectTimeout)
    assert "secret" not in str(done.error)


async def test_a_full_pool_means_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "MAX_CONNECTIONS", 1)
    server = Server([], end="hang")
    async with running(server) as url, opened(2) as client:
        first = asyncio.create_task(client.post(url))
        await until(lambda: bool(server.requests))
        second = await client.post(url)
        assert outcome(second) is NotSent
        assert outcome(await first) is Unclear
    assert len(server.requests) == server.connections == 1


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_connection_that_breaks_after_the_request_was_sent_is_unclear(end: str) -> None:
    server = Server([], end=end)
    async with running(server) as url, opened() as client:
        done = await client.post(url)
    assert outcome(done) is Unclear
    assert isinstance(done.error, httpx.TransportError)
    assert len(server.requests) == server.connections == 1


async def test_a_connection_that_is_reset_at_once_is_never_repeated() -> None:
    server = Server(end="rude")
    async with running(server) as url, opened() as client:
        done = await client.post(url)
    assert outcome(done) in (NotSent, Unclear)
    assert (server.connections, server.requests) == (1, [])


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_kept_connection_that_breaks_as_it_is_reused_is_unclear_for_one_post(end: str, keeping: None) -> None:
    server = Server([OK], end=end)
    async with running(server) as url, opened() as client:
        first, second = await client.post(url), await client.post(url)
    assert [outcome(first), outcome(second)] == [Accepted, Unclear]
    assert (len(server.requests), server.connections) == (2, 1)


async def test_a_get_is_repeated_once_on_a_new_connection(keeping: None) -> None:
    server = Server([OK], end="close")
    async with running(server) as url, opened() as client:
        await client.post(url)
        done = await client.post(url, "GET")
    assert done.answer is None
    assert (len(server.requests), server.connections) == (3, 2)


async def test_a_kept_connection_that_the_server_has_closed_is_not_used() -> None:
    server = Server([OK, OK])
    async with running(server) as url, opened() as client:
        first = await client.post(url)
        server.writers[0].write_eof()
        await until(lambda: server.closed == 1)  # The client has closed its end, too.
        second = await client.post(url)
    assert [outcome(first), outcome(second)] == [Accepted, Accepted]
    assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize("unasked", [LATER, b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n", b"?"])
async def test_what_a_server_sends_unasked_is_never_an_answer(unasked: bytes, keeping: None) -> None:
    server = Server([OK, OK])
    async with running(server) as url, opened() as client:
        await client.post(url)
        server.writers[0].write(unasked)
        for _ in range(10):  # Both ends are in this event loop.
            await asyncio.sleep(0)
        second = await client.post(url)
        third = await client.post(url)
    assert second.answer is None or second.answer.body == b"{}"
    assert outcome(second) in (NotSent, Accepted)
    assert len(server.requests) == 1 + (outcome(second) is Accepted) + 1
    assert outcome(third) is Accepted


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"garbage\r\n\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 abc OK\r\n\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n{}", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\n", httpx.TransportError),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00",
            httpx.DecodingError,
        ),
    ],
    ids=["no-status", "no-number", "long-header", "cut-off", "bad-chunk", "half-head", "bad-gzip"],
)
async def test_a_response_that_cannot_be_read_is_unclear(answer: bytes, error: type) -> None:
    server = Server([answer], end="close")
    async with running(server) as url, opened() as client:
        sending = asyncio.create_task(client.post(url))
        await until(lambda: bool(server.requests))
        server.writers[0].close()
        done = await sending
    assert isinstance(done.error, error)
    assert outcome(done) is Unclear
    assert len(server.requests) == server.connections == 1


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"], ids=["head", "body"])
async def test_a_response_that_does_not_come_is_a_read_timeout(begun: bytes) -> None:
    server = Server([begun], end="hang")
    async with running(server) as url, opened(1) as client:
        done = await client.post(url)
    assert isinstance(done.error, httpx.ReadTimeout)
    assert outcome(done) is Unclear
    assert len(server.requests) == 1


async def test_headers_of_sixty_kilobytes_are_read() -> None:
    fields = b"".join(b"x-%d: %s\r\n" % (n, b"y" * 10_000) for n in range(6))
    server = Server([OK.replace(b"\r\n\r\n", b"\r\n" + fields + b"\r\n")])
    async with running(server) as url, opened() as client:
        done = await client.post(url)
    assert done.answer is not None
    assert len(done.answer.headers["x-5"]) == 10_000


async def test_a_hundred_posts_at_twenty_at_once_use_at_most_twenty_connections(
    certificates: Certificates, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
    server, at_once = Server(), asyncio.Semaphore(20)
    async with running(server, tls) as url, opened() as client:

        async def one() -> type:
            async with at_once:
                return outcome(await client.post(url))

        assert await asyncio.gather(*(one() for _ in range(100))) == [Accepted] * 100
    assert len(server.requests) == 100
    assert server.connections <= 20


async def test_an_idle_connection_is_closed_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert network.KEEP_S < 5
    monkeypatch.setattr(network, "KEEP_S", 0.2)
    server = Server()
    async with running(server) as url, opened() as client:
        await client.post(url)
        await until(lambda: server.closed == 1)
        await client.post(url)
    assert server.connections == 2


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    async with running(server) as url:
        monkeypatch.setenv("HTTP_PROXY", url)
        async with opened() as client:
            done = await client.post("http://provider.example/run")
    assert outcome(done) is Accepted
    assert server.requests[0].startswith(b"POST http://provider.example/run HTTP/1.1\r\n")


async def test_what_is_sent_is_what_was_built() -> None:
    server = Server()
    target = "/a%2Fb/c:1?url=https%3A%2F%2Fx.example%2F%3Fa%3D1&b=%20"
    async with running(server) as url, opened() as client:
        await client.post(url.replace("/run", target))
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert head.split(b"\r\n")[0] == f"POST {target} HTTP/1.1".encode()
    assert sorted(names) == sorted(set(names)) == [b"content-length", b"content-type", b"host"]
    assert body == b'{"prompt":"x"}'


@pytest.mark.parametrize("then", [b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 5\r\n\r\n[408]", b""])
async def test_what_came_on_an_idle_connection_while_the_loop_was_busy_answers_no_later_request(
    then: bytes, keeping: None
) -> None:
    came = threading.Event()

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(OK)
            answered.wait()
            connection.sendall(then)
            connection.shutdown(socket.SHUT_WR)
            came.set()
            ended.wait()

    answered, ended = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/run?fal_webhook=https://segue.example/secret"
        thread = threading.Thread(target=serve, args=[listening])
        thread.start()
        async with opened() as client:
            first = await client.post(url)
            answered.set()
            came.wait()  # The loop does not run meanwhile, and notices nothing.
            second = await client.post(url)
        ended.set()
        thread.join()
    assert first.answer is not None
    assert (type(second.error), second.answer) == (httpx.ConnectError, None)
    assert outcome(second) is NotSent
    assert "secret" not in str(second.error)


def test_the_text_of_an_error_does_not_have_the_url() -> None:
    broken = aiohttp.ClientOSError(None, "Can not write request body for https://queue.example/?fal_webhook=secret")
    with pytest.raises(httpx.ReadError) as raised, network._errors_of_httpx():
        raise broken
    assert str(raised.value) == "ClientOSError"
