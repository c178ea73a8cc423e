"""The client that measures how many requests an endpoint accepts."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from bench.accepted import Connection, Endpoint, answers

pytestmark = pytest.mark.asyncio

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\n"
"""The head of an answer with the body "fine"."""


class Server:
    """Answers each request, and keeps what it was sent."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.received: list[tuple[str, dict[str, int]]] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.partition("Content-Length: ")[2].split("\r\n")[0])
                self.received.append((head, json.loads(await reader.readexactly(length))))
                writer.write(self.head + b"fine")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def serving(head: bytes) -> AsyncIterator[tuple[Server, str]]:
    one = Server(head)
    async with await asyncio.start_server(one.serve, "127.0.0.1", 0) as listening:
        yield one, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/api/tracks"


async def test_each_connection_sends_one_request_after_the_other() -> None:
    async with serving(ACCEPTED) as (server, url):
        endpoint = Endpoint(url, os.getpid(), lambda n: {"n": n}, lambda n: {"Idempotency-Key": f"key-{n}"})
        found = await answers(endpoint, 0.2, 3)
    assert server.connections == 3
    numbers = [body["n"] for _, body in server.received]
    assert sorted(numbers) == list(range(len(numbers)))
    assert len(numbers) >= 3
    head, body = server.received[0]
    assert head.startswith("POST /api/tracks HTTP/1.1\r\n")
    assert f"Idempotency-Key: key-{body['n']}\r\n" in head
    assert found.per_s > 0
    assert found.cpu_ms > 0


class Sent(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


async def test_the_next_request_is_sent_once_the_answer_is_complete() -> None:
    transport, endpoint = Sent(), Endpoint("http://127.0.0.1:1/api/tracks", os.getpid(), lambda n: {"n": n})
    connection = Connection(endpoint, count(), time.monotonic() + 60)
    connection.connection_made(transport)
    for piece in (ACCEPTED[:9], ACCEPTED[9:-2], ACCEPTED[-2:], b"fin"):
        connection.data_received(piece)
        assert (len(transport.written), connection.answered) == (1, 0)
    connection.data_received(b"e")
    assert (len(transport.written), connection.answered) == (2, 1)
    connection.done.cancel()
    connection.end()
    assert transport.closed


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\n", r"answered 'HTTP/1\.1 503 Service Unav"),
        (b"HTTP/1.1 202 Accepted\r\nConnection: close\r\n\r\n", r"answered 'HTTP/1\.1 202 Accepted.*close'"),
    ],
)
async def test_an_answer_that_cannot_be_counted_ends_the_measure(head: bytes, said: str) -> None:
    async with serving(head) as (_, url):
        with pytest.raises(RuntimeError, match=said):
            await answers(Endpoint(url, os.getpid(), lambda n: {}), 5, 2)
