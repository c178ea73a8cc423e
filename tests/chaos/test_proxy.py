"""The proxy does to connections what its attributes say, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from tests.patience import patient

from chaos.cluster.proxy import Proxy, ResetTrigger

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """Answers each line with the same one, and the end of what it hears with a last word."""

    def __init__(self) -> None:
        self.heard = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.heard += line
                writer.write(line)
                await writer.drain()
            writer.write(b"bye\n")
            await writer.drain()
        writer.close()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest_asyncio.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy("127.0.0.1", server.sockets[0].getsockname()[1]).running() as running:
        yield running


@pytest_asyncio.fixture
async def connection(proxy: Proxy) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.listens_at)
    yield reader, writer
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def said(connection: Connection, line: bytes, within_s: float = 5) -> bytes:
    """The answer to a line. Raises TimeoutError where none comes."""
    reader, writer = connection
    writer.write(line)
    async with asyncio.timeout(within_s):
        return await reader.readline()


async def reaches(echo: Echo, line: bytes) -> None:
    async with asyncio.timeout(patient(5)):
        while line not in echo.heard:  # noqa: ASYNC110 - the echo has nobody to tell
            await asyncio.sleep(0.01)


async def test_it_forwards_and_counts(proxy: Proxy, connection: Connection) -> None:
    assert await said(connection, b"hello\n") == b"hello\n"
    assert proxy.connections == 1


async def test_large_answers_arrive_whole(connection: Connection) -> None:
    line = b"x" * 30_000 + b"\n"
    for _ in range(20):
        assert await said(connection, line) == line


async def test_latency_holds_both_directions(proxy: Proxy, connection: Connection) -> None:
    proxy.latency_s = 0.1
    began = time.monotonic()
    assert await said(connection, b"slow\n") == b"slow\n"
    assert time.monotonic() - began >= 0.2


async def test_a_black_hole_takes_and_tells_nothing(proxy: Proxy, connection: Connection, echo: Echo) -> None:
    proxy.blackhole = True
    with pytest.raises(TimeoutError):
        await said(connection, b"lost\n", within_s=0.3)
    proxy.heal()
    assert await said(connection, b"found\n") == b"found\n"
    assert echo.heard == b"found\n"


async def test_only_the_answers_can_be_lost(proxy: Proxy, connection: Connection, echo: Echo) -> None:
    proxy.drop_responses = True
    with pytest.raises(TimeoutError):
        await said(connection, b"heard\n", within_s=0.3)
    await reaches(echo, b"heard\n")


async def test_a_reset_is_a_reset_and_not_an_end(proxy: Proxy, connection: Connection) -> None:
    await said(connection, b"hello\n")
    proxy.reset_all()
    with pytest.raises(ConnectionResetError):
        await said(connection, b"more\n")


async def test_half_a_connection_still_hears_the_answer(proxy: Proxy, connection: Connection, echo: Echo) -> None:
    await said(connection, b"hello\n")
    proxy.half_close()
    async with asyncio.timeout(patient(5)):
        assert await connection[0].read() == b"bye\n"


async def test_it_cuts_after_so_many_bytes(proxy: Proxy, connection: Connection) -> None:
    proxy.cut_after = 20
    assert await said(connection, b"12345\n") == b"12345\n"
    with pytest.raises(ConnectionResetError):
        await said(connection, b"1234567890\n")


async def test_it_refuses_new_connections_only(proxy: Proxy, connection: Connection) -> None:
    await said(connection, b"hello\n")
    proxy.refuse = True
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.listens_at)
    with pytest.raises(ConnectionResetError):
        await said((reader, writer), b"anyone?\n")
    writer.close()
    assert await said(connection, b"still\n") == b"still\n"


async def test_a_trap_waits_for_its_words_in_order_and_takes_one_connection(
    proxy: Proxy, connection: Connection, echo: Echo
) -> None:
    trigger = proxy.trigger = ResetTrigger((b"INSERT", b"COMMIT"))
    assert await said(connection, b"COMMIT\n") == b"COMMIT\n"
    assert await said(connection, b"INSERT\n") == b"INSERT\n"
    assert not trigger.fired.is_set()
    other = await asyncio.open_connection("127.0.0.1", proxy.listens_at)
    assert await said(other, b"COMMIT\n") == b"COMMIT\n", "it has not said the first word"
    with pytest.raises(ConnectionResetError):
        await said(connection, b"COMMIT\n")
    assert trigger.fired.is_set()
    assert echo.heard.count(b"COMMIT") == 2, "the last one was never delivered"
    assert await said(other, b"INSERT COMMIT\n") == b"INSERT COMMIT\n", "a trap is sprung once"
    other[1].close()


async def test_a_word_may_come_in_pieces(proxy: Proxy, connection: Connection) -> None:
    trigger = proxy.trigger = ResetTrigger((b"COMMIT",))
    proxy.latency_s = 0.05
    connection[1].write(b"COM")
    await connection[1].drain()
    await asyncio.sleep(0.1)  # So that they are two chunks: nothing tells when the first one has passed.
    with pytest.raises(ConnectionResetError):
        await said(connection, b"MIT\n")
    assert trigger.fired.is_set()


async def test_a_trap_may_let_the_last_word_through_and_lose_its_answer(
    proxy: Proxy, connection: Connection, echo: Echo
) -> None:
    trigger = proxy.trigger = ResetTrigger((b"COMMIT",), delivered=True)
    with pytest.raises(ConnectionResetError):
        await said(connection, b"COMMIT\n")
    assert trigger.fired.is_set()
    assert echo.heard == b"COMMIT\n"
