"""An app that is served on one thread and handles its requests on the event loop of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FINISH_S: Final = 8.0
"""How long requests may continue once the app is taken away."""

T = TypeVar("T")


class OnLoop:
    """Passes requests on to an app on the event loop in which this object is made; 503 while there is no app."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._app: ASGIApp | None = None
        self._handling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self, app: ASGIApp) -> AsyncIterator[None]:
        """Pass requests on to `app` for the length of the block; at its end, those under way are finished."""
        self._app = app
        try:
            yield
        finally:
            self._app = None
            if self._handling:
                await asyncio.wait(self._handling, timeout=_FINISH_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, on the other loop; called on the loop of the server."""
        if (app := self._app) is None:
            await _not_there()(scope, receive, send)
            return
        here = asyncio.get_running_loop()

        async def receive_here() -> Message:
            return await _on(here, receive())

        async def send_here(message: Message) -> None:
            await _on(here, send(message))

        await _on(self._loop, self._handle(app, scope, receive_here, send_here))

    async def _handle(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if (task := asyncio.current_task()) is not None:
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)
        await app(scope, receive, send)


async def _on(loop: asyncio.AbstractEventLoop, work: Awaitable[T]) -> T:
    async def awaited() -> T:
        return await work

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(awaited(), loop))


def _not_there() -> JSONResponse:
    return JSONResponse(
        {
            "type": "urn:segue:problem:not-serving",
            "title": "This replica is starting or being stopped",
            "status": 503,
            "detail": "nothing of this request was taken; repeat it",
        },
        status_code=503,
        headers={"Retry-After": "1"},
        media_type="application/problem+json",
    )
