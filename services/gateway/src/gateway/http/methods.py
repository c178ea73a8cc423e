"""What every address has beside its own methods: HEAD where there is GET, OPTIONS, and a 405 that lists them."""

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
    """ASGI middleware around the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Whoever serves the call may change its scope.
        asked = dict(scope)
        if scope["method"] == "OPTIONS" and (allow := _allowed(asked)):
            await Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allow})(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._head(scope, receive, _Bodiless(_Allowing(send, asked)))
        else:
            await self._app(scope, receive, _Allowing(send, asked))

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The answer to the same GET; an address may know a cheaper way to it."""
        inner = scope if "HEAD" in _own_methods(scope) else {**scope, "method": "GET"}
        try:
            await self._app(inner, receive, send)
        finally:
            if "route" in inner:
                scope["route"] = inner["route"]


class _Allowing:
    """Sends an answer; a 405 says which methods the address has, all of them."""

    def __init__(self, send: Send, asked: Scope) -> None:
        self._send = send
        self._asked = asked

    async def __call__(self, message: Message) -> None:
        """Pass one message on."""
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.METHOD_NOT_ALLOWED:
            MutableHeaders(scope=message)["Allow"] = _allowed(self._asked)
        await self._send(message)


def _allowed(scope: Scope) -> str:
    """The methods of the address, as Allow lists them; empty where there is no such address."""
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
    each = ((method, {**scope, "method": method}) for method in _METHODS)
    return frozenset(method for method, asked in each if any(route.matches(asked)[0] is Match.FULL for route in routes))


class _Bodiless:
    """Sends an answer's head, and nothing of its body."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._ended = False

    async def __call__(self, message: Message) -> None:
        """Pass one message on."""
        if message["type"] != "http.response.body":
            await self._send(message)
        elif not self._ended:
            self._ended = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
