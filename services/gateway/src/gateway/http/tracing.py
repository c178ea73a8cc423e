"""One server span for each API request, in the client's trace if it sends one, and the handler of last resort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.observability.logs import get_logger
from chassis.observability.telemetry import Telemetry, context_of, failed
from contracts.callback_urls import without_mac
from gateway.http.problem_document import internal_error
from gateway.log_events import GatewayEvent

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class CutShort(Exception):
    """A response ends before its body does, for a reason that has been logged; the client's connection is closed."""


class TracedCalls:
    """ASGI middleware around the whole API. Health pages are not traced, as they are requested every second.

    Clients that wait for a job poll it, so a read is exported only if it failed with 5xx, if the client's own trace is
    sampled, or if `reads` is set. Its log lines have the id of its trace all the same.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, begin: Callable[[], None], *, reads: bool = False) -> None:
        """`begin` is called in the context of each request before it is served; `reads`: every read is exported."""
        self._app = app
        self._telemetry = telemetry
        self._begin = begin
        self._reads = reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; an unexpected exception is logged and answered with 500."""
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        self._begin()
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        path, method = without_mac(scope["path"]), scope["method"]
        attributes = {"http.request.method": method, "url.path": path, "url.scheme": scope["scheme"]}
        # None would mean the current span, which may be of an earlier request: uvicorn shares a connection's context.
        parent = Headers(scope=scope).get("traceparent", "")
        with self._telemetry.span(
            method, parent=parent, kind=SpanKind.SERVER, attributes=attributes, end_on_exit=False
        ) as span:
            error_type = None
            try:
                await self._app(scope, receive, send_and_note)
            except CutShort as error:
                error_type = type(error).__name__
            except Exception as error:  # noqa: BLE001 - the client gets 500, the log the traceback
                error_type = type(error).__name__
                span.record_exception(error)
                get_logger("gateway").error(GatewayEvent.REQUEST_FAILED, path=path, exc_info=error)
                if status == 0:
                    await internal_error().response()(scope, receive, send_and_note)
            route = getattr(scope.get("route"), "path", None)
            if route is not None:
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            if error_type is not None or status >= 500:
                failed(span, error_type or str(status))
            if method not in _READS or self._reads or status >= 500 or error_type is not None or _is_sampled(parent):
                span.end()


def _is_sampled(traceparent: str) -> bool:
    return trace.get_current_span(context_of(traceparent)).get_span_context().trace_flags.sampled
