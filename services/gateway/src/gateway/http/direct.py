"""A route past FastAPI's own layers, which find dependencies and parameters and take longer than a short handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send


class DirectPost(Route):
    """POSTs to one path. FastAPI's route for it, behind this one, documents it and answers other methods."""

    def __init__(self, path: str, serve: Callable[[Request], Awaitable[Response]]) -> None:
        super().__init__(path, _Served(serve), methods=["POST"])

    def matches(self, scope: Scope) -> tuple[Match, dict[str, Any]]:
        """Whether it serves the request; it is named in the scope as FastAPI's routes are, for the log and metrics."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return Match.NONE, {}
        match, found = super().matches(scope)
        return match, {**found, "route": self}


class _Served:
    """An endpoint in the form in which Starlette adds no layers to it; the application answers its exceptions."""

    def __init__(self, serve: Callable[[Request], Awaitable[Response]]) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._serve(Request(scope, receive, send))
        await response(scope, receive, send)
