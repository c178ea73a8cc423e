"""A TCP or TLS connection for httpcore, on the transports of asyncio's event loop.

httpcore's own are anyio's, whose TLS runs in Python. uvloop's transports do the same work for less.
"""

from __future__ import annotations

import asyncio
import ssl
from socket import AI_NUMERICHOST
from typing import Any, Final, Self, cast

import httpcore

MAX_BUFFERED: Final = 128 * 1024
"""Bytes received and not yet read, of one connection, from which on no more are received.

What the event loop reads at once, 256 KiB at most, comes on top.
"""

PIECE: Final = 64 * 1024
"""How many bytes are given to the event loop at a time."""

_EXTRA_INFO: Final = {"client_addr": "sockname", "server_addr": "peername"}
"""What httpcore calls differently from asyncio."""


class AsyncioStream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """A connection, as the event loop reports it (the methods of asyncio.Protocol) and as httpcore uses it (the rest).

    The event loop reads at all times, so that the end of an idle connection is known.
    """

    # The transport that is written to, and the one of the TCP connection: the same, until that is encrypted.
    _transport: asyncio.Transport
    _tcp: asyncio.Transport

    def __init__(self) -> None:
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._is_paused = False
        self._was_read = False
        self._is_lost = False
        # No more bytes come; `_failure` says why, and is None if the peer ended the connection.
        self._ended = False
        self._failure: Exception | None = None

    @classmethod
    async def connect(cls, address: str, port: int, timeout: float | None = None) -> Self:
        """Connect to a numeric IP address in `timeout` seconds. Raises httpcore's ConnectError and ConnectTimeout."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                # The flag makes a lookup impossible: the address is the one that was vetted.
                return (await loop.create_connection(cls, address, port, flags=AI_NUMERICHOST))[1]
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("no connection in time") from error
        except OSError as error:
            raise httpcore.ConnectError(_text(error)) from error

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Self:
        """Encrypt the connection, in `timeout` seconds. Raises httpcore's ConnectError and ConnectTimeout.

        Unless it is returned, encrypted, the connection is closed.
        """
        if self._has_news():
            # It would be read as if it had been encrypted.
            await self.aclose()
            raise httpcore.ConnectError("the peer sent data, or closed the connection, before the TLS handshake")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                transport = await loop.start_tls(self._tcp, self, ssl_context, server_hostname=server_hostname)
        except BaseException as error:
            await self.aclose()
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout("no TLS handshake in time") from error
            # asyncio raises a ValueError for a name that cannot be one of TLS.
            if isinstance(error, OSError | ValueError):
                raise httpcore.ConnectError(_text(error)) from error
            raise
        if transport is None or self._failure is not None:
            raise httpcore.ConnectError("the connection was closed during the TLS handshake") from self._failure
        self._transport = transport
        return self

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes, at most `max_bytes`; none if the peer ended the connection, with or without TLS's goodbye.

        Raises httpcore's ReadError, and ReadTimeout if none come in `timeout` seconds.
        """
        self._was_read = True
        if not self._received and not self._ended:
            self._arrived.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._arrived.wait()
            except TimeoutError as error:
                raise httpcore.ReadTimeout("no data in time") from error
        if not self._received and self._failure is not None:
            raise httpcore.ReadError(_text(self._failure)) from self._failure
        data = bytes(memoryview(self._received)[:max_bytes])
        del self._received[:max_bytes]
        if self._is_paused and len(self._received) < MAX_BUFFERED:
            self._is_paused = False
            self._tcp.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send `buffer`; the event loop still holds up to 64 KiB of it when this returns, or 1 MiB with TLS.

        Raises httpcore's WriteError, WriteTimeout if it takes more than `timeout` seconds, and ConnectionNotAvailable
        if this begins a request and the connection is of no use for it.
        """
        if not buffer:
            return
        # A request begins. httpcore takes two locks between its choice of a connection and this, so that the event loop
        # has run and seen what came by then. Upon the error, httpcore sends over another connection.
        if self._was_read and self._has_news():
            raise httpcore.ConnectionNotAvailable
        self._was_read = False
        try:
            async with asyncio.timeout(timeout):
                # In pieces, since an encrypted transport takes any number of bytes at once before it asks for a pause.
                for start in range(0, len(buffer), PIECE):
                    if not self._ended:
                        self._transport.write(buffer[start : start + PIECE])
                        await self._writable.wait()
        except TimeoutError as error:
            raise httpcore.WriteTimeout("data not taken in time") from error
        if self._ended:
            raise httpcore.WriteError("the connection is closed") from self._failure

    async def aclose(self) -> None:
        """Close the connection at once.

        What was not sent yet is dropped, and TLS's goodbye is neither sent nor waited for: HTTP has its own ends.
        """
        # Whoever still reads must not take this for the end of a response.
        self._end(ConnectionAbortedError("this side closed the connection"))
        # asyncio's transport may raise an AttributeError if it is closed already.
        if not self._is_lost:
            self._transport.abort()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks about a connection, such as `ssl_object`; None for what is not known.

        httpcore asks twice per request whether each idle connection `is_readable`, which is useless then. The answer is
        what the event loop has seen, without a system call; `write` looks again at the connection that is used.
        """
        if info == "is_readable":
            return self._has_news()
        return self._transport.get_extra_info(_EXTRA_INFO.get(info, info))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open; called once, before it is encrypted."""
        # A cast, since uvloop's transports are asyncio's by their methods alone.
        self._transport = self._tcp = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came, decrypted."""
        self._received += data
        self._arrived.set()
        if len(self._received) >= MAX_BUFFERED and not self._is_paused:
            self._is_paused = True
            # Not the encrypted transport: if the peer ends the connection while that is paused, uvloop drops what it
            # has received and not yet decrypted.
            self._tcp.pause_reading()

    def eof_received(self) -> None:
        """The peer sends no more; the event loop closes the connection."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed; `exc` is None if the peer or this side did that.

        Under uvloop nothing else tells that the peer ended a TLS connection without its goodbye.
        """
        self._is_lost = True
        self._end(exc)

    def pause_writing(self) -> None:
        """The event loop holds enough that the peer has not taken yet."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The peer has taken most of it."""
        self._writable.set()

    def _end(self, failure: Exception | None) -> None:
        if not self._ended:
            self._ended, self._failure = True, failure
        self._arrived.set()
        self._writable.set()

    def _has_news(self) -> bool:
        """Whether the event loop has received bytes that were not read, or the end of the connection."""
        return bool(self._received) or self._ended or self._tcp.is_closing()


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
