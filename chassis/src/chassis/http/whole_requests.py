"""When the application hears of a request: once its body is there, unless that is large."""

from __future__ import annotations

from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from chassis.http.requests import MeasuredRequests
from chassis.settings.http_limits import HttpLimits

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
WHOLE_BYTES: Final = 262_144
"""A body of up to so much is there before the application hears of its request: half a body costs no work then."""


class WholeRequests(MeasuredRequests):
    """Hands the requests of one connection to the application, one after the other."""

    def __init__(self, config: Config, server_state: ServerState, limits: HttpLimits) -> None:
        super().__init__(config, server_state, limits)
        self._gone = False
        self._running = 0
        """Requests that the application is working on."""
        self._serving: RequestResponseCycle | None = None
        self._unbegun: Any = None
        """The application for what is being served, while its body is waited for."""

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        super().on_body(body)
        if self._unbegun is not None:
            if len(self.cycle.body) > WHOLE_BYTES:
                self._begin()
            else:
                self.flow.resume_reading()

    def on_message_complete(self) -> None:
        """The request is complete."""
        super().on_message_complete()
        if self._unbegun is not None:
            self._begin()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.flow.write_paused:
            # Its answer would be held as well, and whoever does not read shall not have two.
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
            return
        self._serving = cycle
        if not cycle.more_body or _declared(cycle) > WHOLE_BYTES:
            self._run(cycle, app)
            return
        self._unbegun = app
        self.flow.resume_reading()
        if cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            self.transport.write(_CONTINUE)

    def _begin(self) -> None:
        app, self._unbegun = self._unbegun, None
        self._run(self.cycle, app)

    def _run(self, cycle: RequestResponseCycle, app: Any) -> None:
        async def counted(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            finally:
                self._running -= 1
                if self._gone and not self._running:
                    self._release()

        self._running += 1
        super()._start_asgi_task(cycle, counted)

    def _release(self) -> None:
        """The client is gone, and nothing of this connection is worked on any more."""
        raise NotImplementedError

    def _forget_request(self) -> None:
        """Keep nothing of the latest request but what the pipeline and its cycle have."""
        self.cycle = self.scope = self.headers = None  # type: ignore[assignment]

    def _forget_ahead(self) -> None:
        self.pipeline.clear()
        self.ahead.clear()


def _declared(cycle: RequestResponseCycle) -> int:
    return next((int(value) for name, value in cycle.scope["headers"] if name == b"content-length"), 0)
