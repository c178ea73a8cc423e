"""The faults of the proxy, each set by an attribute, and unchanged forwarding without them."""

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
    """Answers each line with the same line, and the end of the stream with `bye`."""

    def __init__(self) -> None:
        self.received = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.received += line
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


async def exchange(connection: Connection, line: bytes, within_s: float = 5) -> bytes:
    """The answer to a line. Raises TimeoutError if none arrives."""
    reader, writer = connection
    writer.write(line)
    async with asyncio.timeout(within_s):
        return await reader.readline()


async def reaches(echo: Echo, line: bytes) -> None:
    async with asyncio.timeout(patient(5)):
        while line not in echo.received:  # noqa: ASYNC110 - the echo sends no notification
            await asyncio.sleep(0.01)


async def test_it_forwards_and_counts(proxy: Proxy, connection: Connection) -> None:
    assert await exchange(connection, b"hello\n") == b"hello\n"
    assert proxy.connections == 1


async def test_large_answers_arrive_whole(connection: Connection) -> None:
    line = b"x" * 30_000 + b"\n"
    for _ in range(20):
        assert await exchange(connection, line) == line


async def test_latency_applies_to_both_directions(proxy: Proxy, connection: Connection) -> None:
    proxy.latency_s = 0.1
    began = time.monotonic()
    assert await exchange(connection, b"slow\n") == b"slow\n"
    assert time.monotonic() - began >= 0.2


async def test_a_black_hole_forwards_nothing(proxy: Proxy, connection: Connection, echo: Echo) -> None:
    proxy.blackhole = True
    with pytest.raises(TimeoutError):
        await exchange(connection, b"lost\n", within_s=0.3)
    proxy.heal()
    assert await exchange(connection, b"found\n") == b"found\n"
    assert echo.received == b"found\n"


async def test_answers_alone_can_be_dropped(proxy: Proxy, connection: Connection, echo: Echo) -> None:
    proxy.drop_responses = True
    with pytest.raises(TimeoutError):
        await exchange(connection, b"received\n", within_s=0.3)
    await reaches(echo, b"received\n")


async def test_a_reset_is_no_regular_end(proxy: Proxy, connection: Connection) -> None:
    await exchange(connection, b"hello\n")
    proxy.reset_all()
    with pytest.raises(ConnectionResetError):
        await exchange(connection, b"more\n")


async def test_a_half_closed_connection_still_receives_the_answer(
    proxy: Proxy, connection: Connection, echo: Echo
) -> None:
    await exchange(connection, b"hello\n")
    proxy.half_close()
    async with asyncio.timeout(patient(5)):
        assert await connection[0].read() == b"bye\n"


async def test_it_resets_after_a_number_of_bytes(proxy: Proxy, connection: Connection) -> None:
    proxy.cut_after = 20
    assert await exchange(connection, b"12345\n") == b"12345\n"
    with pytest.raises(ConnectionResetError):
        await exchange(connection, b"1234567890\n")


async def test_it_refuses_new_connections_only(proxy: Proxy, connection: Connection) -> None:
    await exchange(connection, b"hello\n")
    proxy.refuse = True
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.listens_at)
    with pytest.raises(ConnectionResetError):
        await exchange((reader, writer), b"anyone?\n")
    writer.close()
    assert await exchange(connection, b"still\n") == b"still\n"


async def test_a_reset_trigger_waits_for_its_words_in_order_and_resets_one_connection(
    proxy: Proxy, connection: Connection, echo: Echo
) -> None:
    trigger = proxy.trigger = ResetTrigger((b"INSERT", b"COMMIT"))
    assert await exchange(connection, b"COMMIT\n") == b"COMMIT\n"
    assert await exchange(connection, b"INSERT\n") == b"INSERT\n"
    assert not trigger.fired.is_set()
    other = await asyncio.open_connection("127.0.0.1", proxy.listens_at)
    assert await exchange(other, b"COMMIT\n") == b"COMMIT\n", "it has not sent the first word"
    with pytest.raises(ConnectionResetError):
        await exchange(connection, b"COMMIT\n")
    assert trigger.fired.is_set()
    assert echo.received.count(b"COMMIT") == 2, "the last one was never delivered"
    assert await exchange(other, b"INSERT COMMIT\n") == b"INSERT COMMIT\n", "a trigger fires once"
    other[1].close()


async def test_a_word_of_a_trigger_may_arrive_in_pieces(proxy: Proxy, connection: Connection) -> None:
    trigger = proxy.trigger = ResetTrigger((b"COMMIT",))
    proxy.latency_s = 0.05
    connection[1].write(b"COM")
    await connection[1].drain()
    await asyncio.sleep(0.1)  # So that they are two chunks; the passing of the first one cannot be observed.
    with pytest.raises(ConnectionResetError):
        await exchange(connection, b"MIT\n")
    assert trigger.fired.is_set()


async def test_a_reset_trigger_may_deliver_the_last_word_and_drop_its_answer(
    proxy: Proxy, connection: Connection, echo: Echo
) -> None:
    trigger = proxy.trigger = ResetTrigger((b"COMMIT",), delivered=True)
    with pytest.raises(ConnectionResetError):
        await exchange(connection, b"COMMIT\n")
    assert trigger.fired.is_set()
    assert echo.received == b"COMMIT\n"
