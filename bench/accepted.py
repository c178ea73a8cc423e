"""Requests that one endpoint process accepts per second, from a client that needs less CPU time than the endpoint."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final
from urllib.parse import urlsplit

from bench.accounts import cpu_of

ANSWERED_WITHIN_S: Final = 60
"""Seconds within which the last requests have to be answered."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that answers 202 to POSTs."""

    url: str
    pid: int
    """The id of its process."""
    body: Callable[[int], Mapping[str, object]]
    """The JSON body of the n-th request."""
    headers: Callable[[int], Mapping[str, str]] = field(default=lambda n: {})
    """Its headers."""

    def request(self, n: int) -> bytes:
        """The n-th request as HTTP/1.1."""
        url, body = urlsplit(self.url), json.dumps(self.body(n))
        fields = {
            "Host": url.netloc,
            "Content-Type": "application/json",
            "Content-Length": len(body),
            **self.headers(n),
        }
        lines = [f"POST {url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", body]
        return "\r\n".join(lines).encode()


@dataclass(frozen=True, slots=True)
class Answers:
    """Requests that one endpoint process accepts."""

    per_s: float
    cpu_ms: float
    """CPU time in milliseconds of the endpoint's process per request."""
    client_cpu_ms: float
    """That of the client."""


class Connection(asyncio.Protocol):
    """Sends requests on one connection, each after the answer to the last, until `until` (monotonic seconds)."""

    def __init__(self, endpoint: Endpoint, numbers: Iterator[int], until: float) -> None:
        self._endpoint = endpoint
        self._numbers = numbers
        self._until = until
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self.answered = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with the last answer; a RuntimeError if one is not 202, or if the connection ends before it."""

    async def open(self) -> None:
        """Connect, and begin to send. Raises OSError."""
        url = urlsplit(self._endpoint.url)
        await asyncio.get_running_loop().create_connection(lambda: self, url.hostname or "", url.port or 80)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take an answer once it is complete; what this measures has a Content-Length."""
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0].strip()
        if not head.startswith(b"HTTP/1.1 202 ") or not length.isdigit():
            self.end(f"{self._endpoint.url} answered {head.decode()!r}")
        elif len(body) >= int(length):
            self._data = b""
            self.answered += 1
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.end(f"{self._endpoint.url} ended the connection: {exc!r}")

    def _send(self) -> None:
        if time.monotonic() >= self._until:
            self.end()
        elif self._transport is not None:
            self._transport.write(self._endpoint.request(next(self._numbers)))

    def end(self, problem: str | None = None) -> None:
        """Close the connection, because of a problem or after the last answer."""
        if self._transport is not None:
            self._transport.close()
        if self.done.done():
            return
        if problem is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(RuntimeError(problem))


async def answers(endpoint: Endpoint, seconds: float, at_once: int) -> Answers:
    """Send requests for that many seconds, `at_once` at a time.

    Raises RuntimeError if one is not answered with 202 and a Content-Length, OSError if the endpoint cannot be
    connected to, and TimeoutError if an answer takes a minute.
    """
    numbers = count()
    with cpu_of({"endpoint": endpoint.pid}) as cpu:
        began, client_began = time.monotonic(), time.process_time()
        connections = [Connection(endpoint, numbers, began + seconds) for _ in range(at_once)]
        try:
            async with asyncio.timeout(seconds + ANSWERED_WITHIN_S):
                await asyncio.gather(*(connection.open() for connection in connections))
                await asyncio.gather(*(connection.done for connection in connections))
        finally:
            for connection in connections:
                connection.end()
        took_s, client_s = time.monotonic() - began, time.process_time() - client_began
    answered = sum(connection.answered for connection in connections)
    return Answers(answered / took_s, 1000 * cpu.total / answered, 1000 * client_s / answered)
