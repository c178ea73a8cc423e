"""Serving HTTP inside a service: the health pages of a platform, and uvicorn without its own signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Final, Protocol

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.http.connection import GuardedProtocol
from chassis.http.guard import Guard, Peer
from chassis.http.listener import Listener, bind, places
from chassis.http.turns import Turns
from chassis.observability.log_events import HttpEvent
from chassis.observability.logs import get_logger
from chassis.runtime.dependencies import Seen, described
from chassis.settings.http_limits import HttpLimits

HEALTH_PATHS: Final = ("/livez", "/readyz", "/metrics")
SHUTDOWN_S: Final = 8
"""How long requests may continue after SIGTERM, in seconds: longer than any request waits for Kafka."""

_FINAL_RESPONSES_S: Final = 1.0
_QUEUE_SHARE: Final = 4
"""One in this many of the listener's places may be held by requests that have not started."""
_MIN_QUEUE: Final = 64
_LIMITS: Final = HttpLimits()


class Health(Protocol):
    """Reports the state of a process."""

    def unhealthy(self) -> str | None:
        """What has failed, as text; None if nothing has."""

    def unready(self) -> str | None:
        """Why the process should get no work now, as text; None if it is ready."""

    def warnings(self) -> Sequence[str]:
        """Conditions that an operator should look at, as text."""
        ...

    def dependencies(self) -> Mapping[str, Seen]:
        """How everything that the process depends on was last seen, by name."""
        ...


def health_routes(of: Health) -> list[Route]:
    """Routes of `/livez` (failed: restart), `/readyz` (failed: send no work) and `/metrics` (for Prometheus)."""

    async def livez(_request: Request) -> Response:
        return _verdict(of.unhealthy())

    async def readyz(_request: Request) -> Response:
        return _verdict(of.unready(), of.warnings(), described(of.dependencies()))

    async def metrics(request: Request) -> Response:
        if _accepts_openmetrics(request.headers.get("accept", "")):
            return Response(openmetrics.generate_latest(REGISTRY), media_type=openmetrics.CONTENT_TYPE_LATEST)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route(path, page) for path, page in zip(HEALTH_PATHS, (livez, readyz, metrics), strict=True)]


def health_app(of: Health, others: ASGIApp | None = None) -> Starlette:
    """An app with the health pages; `others` handles all other paths, which are not found without it."""
    app = Starlette(routes=health_routes(of))
    if others is not None:
        app.router.default = others
    return app


@asynccontextmanager
async def serve_http(
    app: ASGIApp, host: str, port: int, *, limits: HttpLimits = _LIMITS, setting: str = "SEGUE_PORT"
) -> AsyncIterator[int]:
    """Serve `app` within `limits`; yields the port.

    Raises CannotStart, which names `setting`, if the address cannot be bound.
    """
    sock = bind(host, port, setting)
    bound: int = sock.getsockname()[1]
    async with serving(app, sock, limits):
        yield bound


@asynccontextmanager
async def serving(app: ASGIApp, sock: socket.socket, limits: HttpLimits) -> AsyncIterator[None]:
    """Serve `app` within `limits` on a listening socket, and close the socket at the end."""
    limits = _within_open_files(limits)
    gate = ShutdownGate(app)
    server = _Server(gate, sock, limits)
    task = asyncio.create_task(server.serve())
    host, port = sock.getsockname()[:2]
    try:
        get_logger("chassis.http.server").info(
            HttpEvent.HTTP_SERVING, host=host, port=port, connections=limits.connections
        )
        yield
    finally:
        gate.closing = True
        server.should_exit = True
        await task


class ShutdownGate:
    """An app that refuses requests once the service is stopping.

    A connection that was accepted while the server closed stays open, and clients continue to use it. A late request on
    it would be cancelled half-way, with a 500 that has no explanation.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with a 503 if the service is stopping."""
        if scope["type"] == "http" and self.closing:
            await _stopping("this replica is being stopped, and nothing of this request was taken")(
                scope, receive, send
            )
            return
        response_started = False

        async def forward(message: Message) -> None:
            nonlocal response_started
            response_started = True
            await send(message)

        try:
            await self._app(scope, receive, forward)
        except asyncio.CancelledError:
            if not self.closing or response_started or scope["type"] != "http":
                raise
            # Cancelled at the end of the shutdown: this task may go on for one response, as the process exits
            # afterwards.
            await _stopping("this replica is being stopped, and whether this request was taken is not known")(
                scope, receive, send
            )


def _stopping(what: str) -> Response:
    return JSONResponse(
        {
            "type": "urn:segue:problem:stopping",
            "title": "This replica is being stopped",
            "status": 503,
            "detail": f"{what}; repeat it, with the same Idempotency-Key if it had one",
        },
        status_code=503,
        headers={"Retry-After": "1", "Connection": "close"},
        media_type="application/problem+json",
    )


class _Server(uvicorn.Server):
    """uvicorn with our own listener."""

    def __init__(self, app: ASGIApp, sock: socket.socket, limits: HttpLimits) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=GuardedProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
                forwarded_allow_ips=[str(network) for network in limits.trusted],
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
        )
        loop = asyncio.get_running_loop()
        self._guard = Guard(limits, loop.time)
        self._turns = Turns(max(_MIN_QUEUE, limits.connections // _QUEUE_SHARE), loop)
        self._listener = Listener(sock, self._guard)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        self.servers = [self._listener]  # type: ignore[list-item]
        self._listener.start(self._protocol)
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Check the connections; called ten times a second."""
        self._guard.sweep()
        self._listener.report()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests under way, and close every connection."""
        await super().shutdown(sockets)
        if self.server_state.tasks:  # They were cancelled just now, and send their clients a response.
            await asyncio.wait(self.server_state.tasks, timeout=_FINAL_RESPONSES_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # Let their callbacks run.

    def _protocol(self, peer: Peer) -> GuardedProtocol:
        return GuardedProtocol(self.config, self.server_state, self._guard, self._turns, peer)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The process handles signals in one place, and stops more than HTTP.
        with contextlib.nullcontext():
            yield


def _within_open_files(limits: HttpLimits) -> HttpLimits:
    possible = places(limits.connections)
    if possible < limits.connections:
        get_logger("chassis.http.server").warning(
            HttpEvent.CONNECTIONS_LIMITED,
            connections=possible,
            wanted=limits.connections,
        )
    return replace(limits, connections=possible)


def _accepts_openmetrics(accept: str) -> bool:
    """Whether a scraper accepts OpenMetrics 1.0, which has exemplars; Prometheus names it if it stores them."""
    for accepted in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in accepted.split(";"))
        versions = [each.partition("=")[2] for each in parameters if each.startswith("version=")]
        if kind == "application/openmetrics-text" and versions in ([], ["1.0.0"]):
            return True
    return False


def _verdict(
    problem: str | None, warnings: Sequence[str] = (), dependencies: Mapping[str, object] | None = None
) -> Response:
    members: dict[str, object] = {"warnings": list(warnings)} if warnings else {}
    if dependencies:
        members["dependencies"] = dependencies
    if problem is None:
        return JSONResponse({"status": "ok", **members})
    return JSONResponse({"status": "fail", "reason": problem, **members}, status_code=503)
