"""The methods that every resource supports: HEAD if it supports GET, OPTIONS, and a complete Allow header in a 405."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_OF_FILES: Final = frozenset({"GET", "HEAD"})


class EveryMethod:
    """ASGI middleware that adds HEAD and OPTIONS to all routes, and completes the Allow header of a 405."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The application may modify the scope.
        original = dict(scope)
        if scope["method"] == "OPTIONS" and (allow := _allowed(original)):
            await Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allow})(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._head(scope, receive, _WithoutBody(_WithAllow(send, original)))
        else:
            await self._app(scope, receive, _WithAllow(send, original))

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve HEAD by the route's own HEAD if it has one, else by its GET."""
        inner = scope if "HEAD" in _own_methods(scope) else {**scope, "method": "GET"}
        try:
            await self._app(inner, receive, send)
        finally:
            if "route" in inner:
                scope["route"] = inner["route"]


class _WithAllow:
    """Sends a response; a 405 with an Allow header that lists all methods of the resource."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send = send
        self._scope = scope

    async def __call__(self, message: Message) -> None:
        """Send one ASGI message."""
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.METHOD_NOT_ALLOWED:
            MutableHeaders(scope=message)["Allow"] = _allowed(self._scope)
        await self._send(message)


def _allowed(scope: Scope) -> str:
    """The value of the Allow header; empty if there is no such resource."""
    methods = _own_methods(scope)
    if not methods:
        return ""
    return ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))


def _own_methods(scope: Scope) -> frozenset[str]:
    routes = scope["app"].routes
    if scope["path"] == "*":
        return frozenset({"GET", "POST"})
    if any(isinstance(route, Mount) and route.matches(scope)[0] is not Match.NONE for route in routes):
        return _OF_FILES
    scopes = ((method, {**scope, "method": method}) for method in _METHODS)
    return frozenset(method for method, each in scopes if any(route.matches(each)[0] is Match.FULL for route in routes))


class _WithoutBody:
    """Sends the status and headers of a response, without its body."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._ended = False

    async def __call__(self, message: Message) -> None:
        """Send one ASGI message."""
        if message["type"] != "http.response.body":
            await self._send(message)
        elif not self._ended:
            self._ended = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
