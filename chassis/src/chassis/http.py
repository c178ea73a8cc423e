"""Serving HTTP inside a service: the pages a platform asks for, and uvicorn without its own signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.logs import get_logger
from chassis.runtime import CannotStart, Runtime

SHUTDOWN_S: Final = 8
"""How long requests may go on after SIGTERM: longer than any waits for Kafka."""


def health_routes(runtime: Runtime) -> list[Route]:
    """`/livez` (restart me), `/readyz` (send me work), `/metrics` (Prometheus text)."""

    async def livez(_request: Request) -> Response:
        return _verdict(runtime.unhealthy())

    async def readyz(_request: Request) -> Response:
        return _verdict(runtime.unready(), runtime.warnings())

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]


def health_app(runtime: Runtime) -> Starlette:
    """The pages of a service that has no others."""
    return Starlette(routes=health_routes(runtime))


@asynccontextmanager
async def serve_http(app: ASGIApp, host: str, port: int) -> AsyncIterator[int]:
    """Serve `app`; yields the port. Raises CannotStart if the address is taken."""
    listener = _listen(host, port)
    bound: int = listener.getsockname()[1]
    door = Door(app)
    server = _Server(
        uvicorn.Config(door, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=SHUTDOWN_S)
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        get_logger("chassis.http").info("serving http", host=host, port=bound)
        yield bound
    finally:
        door.closing = True
        server.should_exit = True
        await task
        listener.close()


class Door:
    """An app that turns requests away once the service is being stopped.

    A connection that was accepted as the server closed is kept, and clients go on using it: what comes on it late would
    be cut off half done, with a bare 500.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and self.closing:
            await _stopping("this replica is being stopped, and nothing of this request was taken")(
                scope, receive, send
            )
            return
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            if not self.closing or begun or scope["type"] != "http":
                raise
            # Cut off at the very end: the process stops, so it does no harm that this task goes on for one answer.
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
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The process has one place that handles signals, and it drains more than HTTP.
        with contextlib.nullcontext():
            yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the protocol spelled out, asyncio leaves Nagle's algorithm on, at 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise CannotStart(f"SEGUE_PORT: {host}:{port} cannot be listened on: {error.strerror}") from error
    return listener


def _verdict(problem: str | None, warnings: Sequence[str] = ()) -> Response:
    told = {"warnings": list(warnings)} if warnings else {}
    if problem is None:
        return JSONResponse({"status": "ok", **told})
    return JSONResponse({"status": "fail", "reason": problem, **told}, status_code=503)
