"""Serves the POSTs to one path without the routing of the application, which costs time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class DirectPost:
    """ASGI middleware that serves the POSTs to one path; all other requests go on to the application.

    The application's own route for these POSTs only documents them. The scope names this one as the request's route, as
    FastAPI does, for the log and the metrics.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        serve: Callable[[Request], Awaitable[Response]],
        answer: Callable[[Exception], Response],
    ) -> None:
        """`answer` makes the response for an exception of `serve`, or raises it: FastAPI's handlers are not asked."""
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
        except Exception as error:  # noqa: BLE001 - `answer` raises those that it does not know
            response = self._answer(error)
        await response(scope, receive, send)
