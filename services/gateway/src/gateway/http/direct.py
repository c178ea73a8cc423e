"""A way past the layers of the application that find a route and its parameters, and take longer than the handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class DirectPost:
    """ASGI middleware that serves the POSTs to one path. FastAPI's route for it documents it and serves other methods.

    The scope names it as its route, as FastAPI does, for the log and the metrics.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        serve: Callable[[Request], Awaitable[Response]],
        answer: Callable[[Exception], Response],
    ) -> None:
        """`answer` makes the response for an exception of `serve`, or raises it."""
        self._app = app
        self.path = path
        self._serve = serve
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != self.path:
            await self._app(scope, receive, send)
            return
        scope["route"] = self
        try:
            response = await self._serve(Request(scope, receive, send))
        except Exception as error:  # noqa: BLE001 - of unexpected ones `answer` makes none
            response = self._answer(error)
        await response(scope, receive, send)
