"""What is counted and logged of each request to the API: two metrics with bounded labels, and one access line."""

from __future__ import annotations

import re
from functools import lru_cache
from time import perf_counter
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.http.server import HEALTH_PATHS
from chassis.observability.exemplars import exemplar_of
from chassis.observability.logs import get_logger
from chassis.observability.telemetry import Telemetry, traceparent_of
from contracts.callback_urls import without_mac
from contracts.ids import UUID_PATTERN
from gateway.log_events import GatewayEvent
from gateway.metrics import HTTP_REQUEST_SECONDS, HTTP_REQUESTS

NO_RESPONSE: Final = 499
"""The status of a request that ended without a response, as proxies count it."""
OTHER: Final = "other"
METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

_CHILDREN: Final = 1_000
_JOB_ID: Final = re.compile(UUID_PATTERN)


class Accounts:
    """ASGI middleware around all others. Health pages are left out, as they are requested every second.

    A handler that knows which job a request is about sets `request.state.job_id`.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, *, access_log: bool) -> None:
        self._app = app
        self._telemetry = telemetry
        self._log = get_logger("gateway.access")
        self._access_log = access_log
        # The metrics look for their children under a lock. There are few routes, methods and statuses.
        self._counter = lru_cache(_CHILDREN)(HTTP_REQUESTS.labels)
        self._histogram = lru_cache(_CHILDREN)(HTTP_REQUEST_SECONDS.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in HEALTH_PATHS:
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        answer, began_at = _Answer(send), perf_counter()
        try:
            await self._app(scope, receive, answer)
        finally:
            self._account(scope, answer, perf_counter() - began_at)

    def _account(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else OTHER
        route = getattr(scope.get("route"), "path", OTHER)
        self._counter(method, route, str(answer.status)).inc()
        exemplar = exemplar_of(self._telemetry, answer.exported) if self._telemetry.exporting else None
        self._histogram(method, route).observe(seconds, exemplar)
        if self._access_log:
            client = scope.get("client")
            self._log.info(
                GatewayEvent.REQUEST_SERVED,
                method=scope["method"],
                route=route,
                path=without_mac(scope["path"]),
                http_status=answer.status,
                duration_ms=round(seconds * 1000, 1),
                response_bytes=answer.bytes,
                client=client[0] if client else None,
                job_id=_job_of(scope),
                trace_id=answer.trace_id,
            )


class _Answer:
    """Sends a response, and notes its status, its size, and the span in which it began."""

    def __init__(self, send: Send) -> None:
        self._send = send
        # The current span may be of an earlier request: uvicorn shares a connection's context.
        self._outside: Span = trace.get_current_span()
        self._span: Span | None = None
        self.status = NO_RESPONSE
        self.bytes = 0

    async def __call__(self, message: Message) -> None:
        """Send one ASGI message."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            if (span := trace.get_current_span()) is not self._outside:
                self._span = span
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
        await self._send(message)

    @property
    def exported(self) -> str | None:
        """The context of the request's span if it is exported: the span has ended, and was recorded."""
        if self._span is None or getattr(self._span, "end_time", None) is None:
            return None
        return traceparent_of(self._span)

    @property
    def trace_id(self) -> str | None:
        """The id of the request's trace (32 hex digits); None if it has none."""
        return None if self._span is None else format(self._span.get_span_context().trace_id, "032x")


def _job_of(scope: Scope) -> str | None:
    """The job that a request is about, as its handler or its path says; None if neither does."""
    known: str | None = scope["state"].get("job_id")
    if known is not None:
        return known
    named = scope.get("path_params", {})
    job_id: str = named.get("job_id") or named.get("attempt_id", "").partition(".")[0]
    return job_id if _JOB_ID.fullmatch(job_id) else None
