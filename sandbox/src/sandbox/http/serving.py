"""Serving HTTP: several listeners in one process, and answers that fail at the network level on request."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.http.certificates import Certificates
from sandbox.http.responses import Answer, Reply

_CLOSE = "sandbox.close"


class _Protocol(HttpToolsProtocol):
    """Lets a handler abort its connection, which ASGI does not provide."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_CLOSE: {"call": self.transport.close}}


class _Listener(Server):
    """A server that leaves signals to the process and reports when it accepts connections."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles no signals: there are several listeners in one process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts listening, then reports it."""
        await super().startup(sockets)
        self.ready.set()


def bind(address: str, port: int) -> socket.socket:
    """A socket on an IPv4 address; port 0 means any free one."""
    # asyncio turns Nagle's algorithm off only if the protocol is given; otherwise it delays each answer by 40 ms.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    return sock


@dataclass(frozen=True)
class Site:
    """An application and its socket, with TLS if there are certificates."""

    app: ASGIApp
    sock: socket.socket
    tls: Certificates | None = None


@contextlib.asynccontextmanager
async def serving(sites: Sequence[Site]) -> AsyncIterator[None]:
    """Serves all sites for the length of the block; connections still open at its end are aborted."""
    servers = [_Listener(_config(site)) for site in sites]
    async with asyncio.TaskGroup() as tasks:
        for server, site in zip(servers, sites, strict=True):
            tasks.create_task(server.serve([site.sock]))
        for server in servers:
            await server.ready.wait()
        try:
            yield
        finally:
            for server in servers:
                server.should_exit = server.force_exit = True


def _config(site: Site) -> Config:
    return Config(
        site.app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        backlog=4096,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
        ssl_certfile=site.tls.cert_file if site.tls else None,
        ssl_keyfile=str(site.tls.key_file) if site.tls else None,
    )


async def conduct(
    request: Request, answer: Answer, delay_s: float = 0.0, own: Mapping[str, str] | None = None
) -> Response:
    """Answers after `delay_s` with the provider's own headers, or aborts the connection, or never answers."""
    if delay_s:
        await asyncio.sleep(delay_s)
    if isinstance(answer, Reply):
        return render(answer, own)
    if answer == "drop":
        await _hang_up(request.scope, request.receive)
    else:
        await _disconnected(request.receive)
    return Response()


def render(reply: Reply, own: Mapping[str, str] | None = None) -> Response:
    """The reply as an HTTP response, with the provider's own headers unless it comes from a proxy."""
    headers = {name.lower(): value for name, value in reply.headers.items()}
    headers |= {} if reply.bare else {name: value for name, value in (own or {}).items() if name not in headers}
    is_text = isinstance(reply.body, str)
    headers.setdefault("content-type", "text/html" if is_text else "application/json")
    # Escaped, because repeated input may contain characters that UTF-8 cannot encode.
    return Response(reply.body if is_text else json.dumps(reply.body), reply.status, headers)


def cut_short(whole: Response) -> Response:
    """The same response, with a connection that closes half-way through its body."""
    return _HalfResponse(whole)


class _HalfResponse(Response):
    def __init__(self, whole: Response) -> None:
        super().__init__(whole.body, whole.status_code)
        self.raw_headers = whole.raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await _hang_up(scope, receive)


async def _hang_up(scope: Scope, receive: Receive) -> None:
    scope["extensions"][_CLOSE]["call"]()
    await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
