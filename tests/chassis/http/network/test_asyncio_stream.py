import asyncio
import gc
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpcore
import httpx
import pytest
from tests.patience import eventually, patient
from tests.tls import NAME, Tls

from chassis.http.egress import EgressPolicy, egress_client
from chassis.http.network.asyncio_stream import AsyncioStream

LOCAL = "127.0.0.1"
LIMIT_S = 0.05
"""A time limit that is to be reached."""
LARGE = bytes(range(256)) * 4096 * 48
"""48 MiB: more than the system's buffers of two sockets hold."""
MOST_HELD = 16 * 1024 * 1024
"""What these, and the transports of both sides, hold at most."""


@pytest.fixture(autouse=True)
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """Nothing may be left to the event loop's handler of exceptions, such as a task's that nobody retrieved."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    yield told
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


@dataclass
class Peer:
    """The other side, of which a test plays the part."""

    port: int
    tls: ssl.SSLContext | None
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=asyncio.Queue)

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(patient(20)):
            return await self.accepted.get()

    async def connect(self, client: ssl.SSLContext) -> AsyncioStream:
        """A connection to this side, encrypted if this side is."""
        stream = await AsyncioStream.connect(LOCAL, self.port, patient(20))
        return await stream.start_tls(client, NAME, patient(20)) if self.tls else stream


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    writers: list[asyncio.StreamWriter] = []
    peer = Peer(0, tls)

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        peer.accepted.put_nowait((reader, writer))

    async with await asyncio.start_server(serve, LOCAL, 0, ssl=tls) as server:
        peer.port = server.sockets[0].getsockname()[1]
        try:
            yield peer
        finally:
            for writer in writers:
                with suppress(AttributeError):  # asyncio's, if it is closed already.
                    writer.transport.abort()


@pytest.fixture
def client(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.certificate))
    context.set_alpn_protocols(["http/1.1"])
    return context


@pytest.fixture(params=["plain", "tls"])
async def peer(request: pytest.FixtureRequest, tls: Tls) -> AsyncIterator[Peer]:
    async with listening(tls.server if request.param == "tls" else None) as one:
        yield one


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until the peer is told that the connection is closed."""
    async with asyncio.timeout(patient(20)):
        with suppress(ConnectionError, ssl.SSLError):
            while await reader.read(65_536):
                pass


async def is_readable(stream: AsyncioStream) -> bool:
    return bool(stream.get_extra_info("is_readable"))


def settles(count: Callable[[], int]) -> Callable[[], Coroutine[None, None, bool]]:
    """Whether it has been the same number, and not 0, the last time."""
    last = -1

    async def is_settled() -> bool:
        nonlocal last
        before, last = last, count()
        return 0 < last == before

    return is_settled


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def rest_of(stream: AsyncioStream) -> list[bytes]:
    pieces = []
    while piece := await stream.read(65_536, patient(20)):
        pieces.append(piece)
    return pieces


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the client's system is told of a broken connection."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def silent() -> Iterator[int]:
    """The port of a system that answers no attempt to connect: its queue of connections is full."""
    with socket.create_server((LOCAL, 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((LOCAL, port)):
            yield port


async def test_bytes_go_both_ways(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    reader, writer = await peer.accept()
    await stream.write(b"")
    await stream.write(b"ping", 1.0)
    assert await reader.readexactly(4) == b"ping"
    writer.write(b"pong")
    assert await stream.read(3, patient(20)) == b"pon"
    assert await stream.read(3, patient(20)) == b"g"
    writer.close()
    assert await stream.read(3, patient(20)) == b""
    assert await stream.read(3, patient(20)) == b""
    await stream.aclose()


async def test_tls_names_the_host_and_agrees_on_a_protocol(tls: Tls, client: ssl.SSLContext) -> None:
    named: list[str | None] = []
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls.certificate, tls.certificate.with_name("key.pem"))
    server.set_alpn_protocols(["h2", "http/1.1"])
    server.sni_callback = lambda _, name, __: named.append(name)
    async with listening(server) as peer:
        stream = await peer.connect(client)
        assert named == [NAME]
        assert stream.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert stream.get_extra_info("server_addr")[:2] == (LOCAL, peer.port)
        assert stream.get_extra_info("no such info") is None
        await stream.aclose()


async def test_only_a_numeric_address_is_connected_to() -> None:
    async with listening() as peer:
        with pytest.raises(httpcore.ConnectError) as caught:
            await AsyncioStream.connect("localhost", peer.port, patient(20))
        assert isinstance(caught.value.__cause__, socket.gaierror)
        assert peer.accepted.empty()


async def test_a_refused_connection_is_a_connect_error() -> None:
    async with listening() as peer:
        pass
    with pytest.raises(httpcore.ConnectError, match="111") as caught:
        await AsyncioStream.connect(LOCAL, peer.port, patient(20))
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_a_connection_that_is_not_answered_times_out() -> None:
    with silent() as port, pytest.raises(httpcore.ConnectTimeout):
        await AsyncioStream.connect(LOCAL, port, LIMIT_S)


async def test_a_handshake_that_is_not_answered_times_out_and_closes(client: ssl.SSLContext) -> None:
    async with listening() as peer:
        stream = await peer.connect(client)
        reader, _ = await peer.accept()
        with pytest.raises(httpcore.ConnectTimeout):
            await stream.start_tls(client, NAME, LIMIT_S)
        await ended(reader)


@pytest.mark.parametrize("name", ["other.example.com", LOCAL])
async def test_a_certificate_for_another_name_is_a_connect_error(tls: Tls, client: ssl.SSLContext, name: str) -> None:
    async with listening(tls.server) as peer:
        stream = await AsyncioStream.connect(LOCAL, peer.port)
        with pytest.raises(httpcore.ConnectError) as caught:
            await stream.start_tls(client, name, patient(20))
        assert peer.accepted.empty()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert str(caught.value.__cause__) == str(caught.value) != ""


async def test_a_name_that_cannot_be_one_of_tls_is_a_connect_error(
    client: ssl.SSLContext, complaints: list[dict[str, Any]]
) -> None:
    async with listening() as peer:
        stream = await peer.connect(client)
        reader, _ = await peer.accept()
        with pytest.raises(httpcore.ConnectError) as caught:
            await stream.start_tls(client, ".example.com", patient(20))
        assert isinstance(caught.value.__cause__, ValueError)
        await ended(reader)
    complaints.clear()  # uvloop reports it as well.


async def test_a_certificate_of_an_untrusted_authority_is_a_connect_error(tls: Tls) -> None:
    async with listening(tls.server) as peer:
        stream = await AsyncioStream.connect(LOCAL, peer.port)
        with pytest.raises(httpcore.ConnectError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await stream.start_tls(ssl.create_default_context(), NAME, patient(20))
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_a_peer_that_answers_no_handshake_is_a_connect_error(client: ssl.SSLContext, answer: bytes) -> None:
    async with listening() as peer:
        stream = await peer.connect(client)
        reader, writer = await peer.accept()
        encrypting = asyncio.create_task(stream.start_tls(client, NAME, patient(20)))
        assert await reader.read(1)
        writer.write(answer)
        writer.close()
        with pytest.raises(httpcore.ConnectError) as caught:
            await encrypting
        assert isinstance(caught.value.__cause__, OSError)
        assert str(caught.value)


async def test_closing_during_the_handshake_is_a_connect_error(client: ssl.SSLContext) -> None:
    async with listening() as peer:
        stream = await peer.connect(client)
        reader, _ = await peer.accept()
        encrypting = asyncio.create_task(stream.start_tls(client, NAME, patient(20)))
        assert await reader.read(1)
        await stream.aclose()
        with pytest.raises(httpcore.ConnectError):
            await encrypting
        await ended(reader)


async def test_what_was_sent_before_the_handshake_is_not_read(client: ssl.SSLContext) -> None:
    async with listening() as peer:
        stream = await peer.connect(client)
        reader, writer = await peer.accept()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await eventually(partial(is_readable, stream))
        with pytest.raises(httpcore.ConnectError, match="before the TLS handshake"):
            await stream.start_tls(client, NAME, patient(20))
        await ended(reader)


async def test_silence_is_a_read_timeout(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    with pytest.raises(httpcore.ReadTimeout):
        await stream.read(1, LIMIT_S)
    await stream.aclose()


async def test_a_reset_connection_is_a_read_error_and_a_write_error(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    _, writer = await peer.accept()
    reading = asyncio.create_task(stream.read(1, patient(20)))
    await asyncio.sleep(0)
    reset(writer)
    with pytest.raises(httpcore.ReadError) as caught:
        await reading
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    stream._was_read = False
    with pytest.raises(httpcore.WriteError) as written:
        await stream.write(b"x", patient(20))
    assert isinstance(written.value.__cause__, ConnectionResetError)
    await stream.aclose()


async def test_a_reset_connection_ends_a_write_that_waits(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    _, writer = await peer.accept()
    writing = asyncio.create_task(stream.write(LARGE, patient(20)))
    await asyncio.sleep(0)
    reset(writer)
    with pytest.raises(httpcore.WriteError):
        await writing
    await stream.aclose()


async def test_a_peer_that_takes_nothing_is_a_write_timeout(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    with pytest.raises(httpcore.WriteTimeout):
        await stream.write(LARGE, LIMIT_S)
    await stream.aclose()


async def test_a_slow_peer_takes_all(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    reader, _ = await peer.accept()
    writing = asyncio.create_task(stream.write(LARGE, patient(20)))
    assert digest(await reader.readexactly(len(LARGE))) == digest(LARGE)
    await writing
    await stream.aclose()


async def test_what_nobody_reads_is_held_up_at_the_peer_and_comes_whole(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    _, writer = await peer.accept()
    sent = 0

    async def send() -> None:
        nonlocal sent
        for start in range(0, len(LARGE), 65_536):
            writer.write(LARGE[start : start + 65_536])
            await writer.drain()
            sent += 65_536
        writer.close()

    sending = asyncio.create_task(send())
    await eventually(settles(lambda: sent), every_s=0.2)
    assert sent < MOST_HELD
    assert len(stream._received) < 1024 * 1024
    pieces = await rest_of(stream)
    assert max(map(len, pieces)) <= 65_536
    assert digest(b"".join(pieces)) == digest(LARGE)
    await sending
    await stream.aclose()


@pytest.mark.parametrize("size", [100_000, 200_000, 400_000, 600_000])
async def test_what_came_before_the_end_is_read(tls: Tls, client: ssl.SSLContext, size: int) -> None:
    """The peer closes, without TLS's goodbye, when the buffers of both systems hold all that nobody reads yet."""

    def serve(listener: socket.socket) -> None:
        with tls.server.wrap_socket(listener.accept()[0], server_side=True) as connection:
            connection.sendall(LARGE[:size])

    with socket.create_server((LOCAL, 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,), daemon=True)
        serving.start()
        stream = await AsyncioStream.connect(LOCAL, listener.getsockname()[1], patient(20))
        await stream.start_tls(client, NAME, patient(20))
        await asyncio.to_thread(serving.join)
    await eventually(settles(lambda: len(stream._received)), every_s=0.1)
    assert digest(b"".join(await rest_of(stream))) == digest(LARGE[:size])
    await stream.aclose()


async def test_a_tls_connection_that_ends_without_goodbye_has_ended(tls: Tls, client: ssl.SSLContext) -> None:
    async with listening(tls.server) as peer:
        stream = await peer.connect(client)
        _, writer = await peer.accept()
        writer.write(b"half")
        assert await stream.read(65_536, patient(20)) == b"half"
        writer.transport.abort()
        assert await stream.read(65_536, patient(20)) == b""
        await stream.aclose()


async def test_an_error_after_the_end_does_not_undo_it(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    stream.eof_received()
    stream.connection_lost(ssl.SSLError("a bad goodbye"))
    assert await stream.read(65_536, patient(20)) == b""
    stream._tcp.abort()


async def test_closing_waits_for_nothing(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    reader, _ = await peer.accept()
    with pytest.raises(httpcore.WriteTimeout):
        await stream.write(LARGE, LIMIT_S)
    closing = stream.aclose()
    with pytest.raises(StopIteration):
        closing.send(None)

    async def is_closed() -> bool:
        return stream._is_lost

    await eventually(is_closed, what="the peer takes nothing of what was sent before")
    await ended(reader)
    await stream.aclose()


async def test_the_end_is_told_while_something_is_unsent() -> None:
    async with listening() as peer:
        stream = await AsyncioStream.connect(LOCAL, peer.port)
        reader, writer = await peer.accept()
        with pytest.raises(httpcore.WriteTimeout):
            await stream.write(LARGE, LIMIT_S)
        writer.write_eof()
        assert await stream.read(1, patient(5)) == b""
        with pytest.raises(httpcore.ConnectionNotAvailable):
            await stream.write(b"x", patient(5))
        # The peer takes the rest, upon which the event loop closes the connection.
        await ended(reader)
        await stream.aclose()


async def test_a_closed_connection_is_not_taken_for_the_end_of_a_response(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    reading = asyncio.create_task(stream.read(1, patient(20)))
    await asyncio.sleep(0)
    await stream.aclose()
    with pytest.raises(httpcore.ReadError):
        await reading
    stream._was_read = False
    with pytest.raises(httpcore.WriteError):
        await stream.write(b"x", patient(20))


async def test_an_idle_connection_with_unasked_bytes_is_known(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    _, writer = await peer.accept()
    assert not await is_readable(stream)
    writer.write(b"unasked")
    await eventually(partial(is_readable, stream))
    await stream.aclose()


@pytest.mark.parametrize("how", ["close", "abort", "reset"])
async def test_an_idle_connection_that_the_peer_ended_is_known(peer: Peer, client: ssl.SSLContext, how: str) -> None:
    stream = await peer.connect(client)
    _, writer = await peer.accept()
    match how:
        case "close":
            writer.close()
        case "abort":
            writer.transport.abort()
        case "reset":
            reset(writer)
    await eventually(partial(is_readable, stream))
    await stream.aclose()


async def test_an_idle_connection_is_known_after_its_reading_was_paused(peer: Peer, client: ssl.SSLContext) -> None:
    stream = await peer.connect(client)
    _, writer = await peer.accept()
    half = LARGE[: 1024 * 1024]
    writer.write(half)
    got = 0
    while got < len(half):
        await asyncio.sleep(0)
        got += len(await stream.read(65_536, patient(20)))
    assert not await is_readable(stream)
    writer.close()
    await eventually(partial(is_readable, stream))
    await stream.aclose()


@asynccontextmanager
async def egress(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    async def resolve(host: str, port: int) -> list[str]:
        return [LOCAL]

    monkeypatch.setenv("SSL_CERT_FILE", str(tls.certificate))
    async with egress_client(EgressPolicy.parse(LOCAL), resolve=resolve, connect_s=patient(20)) as one:
        yield one


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


@pytest.mark.parametrize("last", [b"", ANSWER + b"no"])
async def test_what_the_event_loop_has_not_seen_yet_makes_an_idle_connection_useless(
    tls: Tls, monkeypatch: pytest.MonkeyPatch, last: bytes
) -> None:
    """The peer acts while the event loop is busy, just before the next request: it sends unasked bytes, and closes."""
    go, gone = threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        for n in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(ANSWER + b"%d!" % n)
                go.wait(patient(20))
                connection.sendall(last)
            gone.set()

    with socket.create_server((LOCAL, 0)) as listener:
        url = f"http://{NAME}:{listener.getsockname()[1]}/"
        serving = threading.Thread(target=serve, args=(listener,), daemon=True)
        serving.start()
        async with egress(tls, monkeypatch) as client:
            assert (await client.get(url)).text == "0!"
            go.set()
            gone.wait(patient(20))
            assert (await client.get(url)).text == "1!"
        serving.join()


async def test_one_connection_serves_requests_one_after_another(
    peer: Peer, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{'https' if peer.tls else 'http'}://{NAME}:{peer.port}/"
    async with egress(tls, monkeypatch) as client:
        getting = asyncio.create_task(client.get(url))
        reader, writer = await peer.accept()
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER + b"ok")
            assert (await getting).text == "ok"
            getting = asyncio.create_task(client.get(url))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.write(LARGE)
        writer.close()
        assert digest((await getting).content) == digest(LARGE)
    assert peer.accepted.empty()


Act = Callable[[Peer, ssl.SSLContext], Coroutine[None, None, None]]


async def _shake_hands(peer: Peer, client: ssl.SSLContext) -> None:
    await (await AsyncioStream.connect(LOCAL, peer.port)).start_tls(client, NAME)


async def _get(peer: Peer, client: ssl.SSLContext) -> None:
    async with egress_client(EgressPolicy.parse(LOCAL)) as http:
        await http.get(f"http://{LOCAL}:{peer.port}/")


async def _post(peer: Peer, client: ssl.SSLContext) -> None:
    async with egress_client(EgressPolicy.parse(LOCAL)) as http:
        await http.post(f"http://{LOCAL}:{peer.port}/", content=LARGE)


@pytest.mark.parametrize("act", [_shake_hands, _get, _post])
@pytest.mark.parametrize("received", [0, 1])
async def test_cancelling_closes_the_connection(client: ssl.SSLContext, act: Act, received: int) -> None:
    async with listening() as peer:
        task = asyncio.create_task(act(peer, client))
        reader, _ = await peer.accept()
        if received:
            assert await reader.readexactly(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended(reader)


async def test_cancelling_an_attempt_to_connect_closes_it() -> None:
    with silent() as port:
        task = asyncio.create_task(AsyncioStream.connect(LOCAL, port))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
