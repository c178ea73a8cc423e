"""A TCP proxy with network faults: delays, black holes, resets, half-closed connections, truncation, lost responses."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

_CHUNK_BYTES: Final = 64 * 1024
_LINGER_NONE: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class ResetTrigger:
    """Resets one connection once its client has sent these byte strings in this order."""

    words: tuple[bytes, ...]
    delivered: bool = False
    """Whether the server receives the last string, so that only its response is lost."""
    fired: asyncio.Event = field(default_factory=asyncio.Event)


class _Connection:
    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.passed = 0
        self.heard = b""
        self.word = 0
        self.muted: ResetTrigger | None = None

    def reset(self) -> None:
        for writer in (self.client, self.server):
            raw = writer.get_extra_info("socket")
            if raw is not None:
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            writer.transport.abort()


class Proxy:
    """Forwards to one address; its attributes select the faults and can change at any time."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.listens_at = 0
        """The port on loopback."""
        self.latency_s = 0.0
        """Delay of each chunk in both directions, in seconds."""
        self.blackhole = False
        """Accept data and forward nothing."""
        self.drop_responses = False
        """Forward the clients' data, and drop the server's responses."""
        self.cut_after: int | None = None
        """Reset a connection after this many bytes."""
        self.refuse = False
        """Reset new connections."""
        self.trigger: ResetTrigger | None = None
        self._open: set[_Connection] = set()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def reset_all(self) -> None:
        """Reset every connection, at both ends."""
        for connection in list(self._open):
            connection.reset()

    def half_close(self) -> None:
        """Send every server an end of stream, and continue to forward its responses."""
        for connection in self._open:
            connection.server.write_eof()

    def heal(self) -> None:
        """Remove all faults; open connections stay open."""
        self.latency_s, self.blackhole, self.drop_responses = 0.0, False, False
        self.cut_after, self.refuse, self.trigger = None, False, None

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Proxy]:
        """Listen on a port of loopback, any free one for 0, for the length of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=_CHUNK_BYTES)
        self.listens_at = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.reset_all()
            await server.wait_closed()

    async def _serve(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_server, server = await asyncio.open_connection(self.host, self.port, limit=_CHUNK_BYTES)
        except OSError:
            client.transport.abort()
            return
        connection = _Connection(client, server)
        self._open.add(connection)
        try:
            if self.refuse:
                return
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(connection, from_client, server, answers=False))
                pumps.create_task(self._pump(connection, from_server, client, answers=True))
        finally:
            self._open.discard(connection)
            connection.reset()

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                if not self._passes(connection, chunk, answers=answers):
                    continue
                writer.write(chunk)
                await writer.drain()
            if writer.can_write_eof() and not writer.is_closing():
                writer.write_eof()

    def _passes(self, connection: _Connection, chunk: bytes, *, answers: bool) -> bool:
        connection.passed += len(chunk)
        if self.cut_after is not None and connection.passed > self.cut_after:
            connection.reset()
            return False
        if answers and connection.muted is not None:
            self._fire(connection, connection.muted)
            return False
        if not answers and self.trigger is not None and self._matched(connection, self.trigger, chunk):
            if not self.trigger.delivered:
                self._fire(connection, self.trigger)
                return False
            connection.muted, self.trigger = self.trigger, None
        return not self.blackhole and not (answers and self.drop_responses)

    def _matched(self, connection: _Connection, trigger: ResetTrigger, chunk: bytes) -> bool:
        connection.heard += chunk
        while connection.word < len(trigger.words):
            word = trigger.words[connection.word]
            found = connection.heard.find(word)
            if found < 0:
                connection.heard = connection.heard[-len(word) :]
                return False
            connection.heard = connection.heard[found + len(word) :]
            connection.word += 1
        return True

    def _fire(self, connection: _Connection, trigger: ResetTrigger) -> None:
        connection.reset()
        self.trigger = None if self.trigger is trigger else self.trigger
        trigger.fired.set()
