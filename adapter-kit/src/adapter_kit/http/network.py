"""The network below the providers' SDKs: httpx's requests, sent by aiohttp at a third of the processor time."""

from __future__ import annotations

import os
import select
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.request import getproxies
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

KEEP_S: Final = 2.0
"""Seconds for which an idle connection is kept.

Less than the five seconds after which common servers close one: a POST that is sent just then would be unclear.
"""
MAX_CONNECTIONS: Final = 1000
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 1000


def open_network() -> httpx.AsyncBaseTransport:
    """A transport for one event loop, without retries, redirects and cookies; certificates as httpx takes them.

    If the environment names a proxy, all requests go through httpx's own network, which knows every form of these
    variables.
    """
    proxied = getproxies().keys() & {"http", "https", "all"}
    return _ProxiedTransport() if proxied else AiohttpTransport(httpx.create_ssl_context())


class _ProxiedTransport(httpx.AsyncBaseTransport):
    def __init__(self) -> None:
        # A client, as httpx's transports read no environment.
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_S)
        self._client = httpx.AsyncClient(limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._client.send(request, stream=True)

    async def aclose(self) -> None:
        await self._client.aclose()


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests through aiohttp. Of the time-outs it knows `connect`, which includes the pool, and `read`.

    ConnectError and ConnectTimeout mean that no byte of the request was written. A POST is never repeated; aiohttp
    repeats a GET once if a kept connection breaks.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_S),
            request_class=_Request,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            auto_decompress=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its response with the body still to be read. Raises httpx's errors."""
        encoding, timeout = request.headers.encoding, request.extensions["timeout"]
        content = await request.aread()
        with _errors_of_httpx():
            response = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=[(name.decode(encoding), value.decode(encoding)) for name, value in request.headers.raw],
                data=content or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(connect=timeout["connect"], sock_read=timeout["read"]),
            )
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response), request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()


_used: Final[WeakSet[ResponseHandler]] = WeakSet()
"""The connections over which a request has been sent."""


class _Request(aiohttp.ClientRequest):
    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        # aiohttp would take what a server sent on an idle connection for the response to this request.
        if conn.protocol is None or conn.protocol.should_close or _has_arrived(conn.protocol):
            raise httpx.ConnectError("the server sent data, or closed the connection, before the request was sent")
        _used.add(conn.protocol)
        return await super().send(conn)


def _has_arrived(connection: ResponseHandler) -> bool:
    """Whether a connection was idle, and something came that the event loop has not read yet.

    On a new connection that may be a part of the TLS handshake.
    """
    if connection not in _used or connection.transport is None:
        return False
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        with _errors_of_httpx():
            async for piece in self._response.content.iter_any():
                yield piece

    async def aclose(self) -> None:
        self._response.close()


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    """Raise aiohttp's errors as those of httpx.

    The first three groups are raised only before aiohttp has a connection for the request. Their texts here contain
    neither the URL, which may hold a secret, nor the address of an object.
    """
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout("no connection in time") from error
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(str(error.args[1])) from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise httpx.UnsupportedProtocol("not a URL of http or https") from error
    except TimeoutError as error:
        raise httpx.ReadTimeout("no data in time") from error
    except aiohttp.ClientResponseError as error:
        raise httpx.RemoteProtocolError(error.message) from error
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        # Its own text may have the URL.
        number = error.errno if isinstance(error, OSError) else None
        raise httpx.ReadError(os.strerror(number) if number else type(error).__name__) from error
