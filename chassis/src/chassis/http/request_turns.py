"""When a request is passed to the application: once its body is complete, unless that is large, and in its turn."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from chassis.http.guard import Guard, Peer, network_of
from chassis.http.measured_requests import FIELD_BYTES, REQUEST_BYTES, MeasuredRequests
from chassis.http.turns import Turns

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_MAX_TEXT_CHARS: Final = 64
WHOLE_BYTES: Final = 262_144
"""A body of up to this many bytes is received completely before the application is called."""


class HeadWithBody(asyncio.WriteTransport):
    """The transport of one response, whose head is sent in one piece with the beginning of its body, as ASGI wants it.

    Two pieces take twice the time, here and at the client.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self.holding = False
        """Whether the next write is a head, which waits for the one after it."""
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, those that were held before them."""
        if self.holding:
            self.holding, self._head = False, bytes(data)
            return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def close(self) -> None:
        """Send what is held, and close the connection."""
        self.holding = False
        if self._head:
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is being closed."""
        return self._transport.is_closing()


class RequestsInTurn(MeasuredRequests):
    """Passes requests to the application one after the other, each in its turn among those of all clients."""

    def __init__(self, config: Config, server_state: ServerState, guard: Guard, turns: Turns, peer: Peer) -> None:
        super().__init__(config, server_state, guard.limits)
        self.peer = peer
        self._guard = guard
        self._turns = turns
        self._disconnected = False
        self.closes = False
        """Whether the current response is the last one of the connection."""
        self._running = 0
        """Requests that the application is processing."""
        self._current_cycle: RequestResponseCycle | None = None
        self._pending_app: Any = None
        """The application for the current request, until it is called."""
        self._queued_for: str | None = None
        """The client in whose queue the current request waits."""
        self._queued_bytes = 0
        """The memory that the request takes while it waits, in bytes."""

    @property
    def response_pending(self) -> bool:
        """Whether a request is in progress or its response not read yet, so that the next one has to wait."""
        # The next response would be buffered as well; a client that does not read gets no second one.
        return self._current_cycle is not None or self.flow.write_paused

    # Called by the parser.

    def on_body(self, body: bytes) -> None:
        """A part of the body was received."""
        super().on_body(body)
        if self._pending_app is not None and self._queued_for is None:
            if len(self.cycle.body) > WHOLE_BYTES:
                self._enqueue(self.cycle)
            else:
                self.flow.resume_reading()

    def on_message_complete(self) -> None:
        """The request is complete."""
        super().on_message_complete()
        if self._pending_app is not None and self._queued_for is None:
            self._enqueue(self.cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._current_cycle, self._pending_app = cycle, app
        if self.length is not None and not 0 < self.length <= WHOLE_BYTES:
            self._enqueue(cycle)
            return
        self.flow.resume_reading()
        if cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            self.transport.write(_CONTINUE)

    # Called by the turns.

    def start_request(self, ticket: int) -> None:
        """Start the current request."""
        cycle, app = self._current_cycle, self._pending_app
        self._pending_app, self._queued_for = None, None
        if cycle is not None and not self.transport.is_closing():
            self._run(cycle, app, ticket)
        else:
            self._turns.done(ticket)

    def reject_request(self) -> None:
        """Refuse the current request, as too many wait."""
        raise NotImplementedError

    # State changes.

    def _enqueue(self, cycle: RequestResponseCycle) -> None:
        self._queued_for = self._client(cycle)
        self._queued_bytes = _bytes_of(cycle)
        self._turns.add(self._queued_for, self)

    def _dequeue(self) -> None:
        """Remove the current request from the queue, if it has not started."""
        if self._queued_for is not None:
            self._turns.remove(self._queued_for, self)
        self._pending_app, self._queued_for = None, None

    def _run(self, cycle: RequestResponseCycle, app: Any, ticket: int) -> None:
        done = self._turns.done
        output = HeadWithBody(self.transport)
        cycle.transport = output  # type: ignore[assignment] # a cycle writes and closes, no more

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            def receiving() -> Any:
                if not cycle.message_event.is_set():  # It waits for its client, or for the end of a job.
                    done(ticket)
                return receive()

            def sending(message: Any) -> Any:
                done(ticket)
                if message["type"] == "http.response.start":
                    output.holding = scope["method"] != "HEAD"  # The response to that has no body.
                    if cycle is self._current_cycle and self.in_body:
                        return self._send_last(cycle, send, message)
                return send(message)

            try:
                await app(scope, receiving, sending)
            finally:
                done(ticket)
                self._running -= 1
                if self._disconnected and not self._running:
                    self._release_place()

        self._running += 1
        super()._start_asgi_task(cycle, counted)

    async def _send_last(self, cycle: RequestResponseCycle, send: Any, message: Any) -> None:
        """Start a response while the client still sends the body: the connection ends with it, and it says so."""
        self.closes = True
        headers = [each for each in message.get("headers", ()) if each[0].lower() != b"connection"]
        await send({**message, "headers": [*headers, (b"connection", b"close")]})
        # uvicorn would close the connection without giving the client time to read the response.
        cycle.keep_alive = True

    def _release_place(self) -> None:
        """Called when no request of this connection is in progress any more."""
        raise NotImplementedError

    def _client(self, cycle: RequestResponseCycle) -> str:
        """The client of a request, also behind a trusted proxy."""
        if self.peer.trusted and isinstance(self.app, ProxyHeadersMiddleware):
            forwarded = b",".join(value for name, value in cycle.scope["headers"] if name == b"x-forwarded-for")
            host, _ = self.app.trusted_hosts.get_trusted_client_address(forwarded.decode("latin-1"))
            return _network_or_text(host) if host else self.peer.address
        return self.peer.address


def _network_or_text(host: str) -> str:
    """The network of an address. Text that is no address, which a proxy passes on as it came, stands for itself."""
    try:
        return network_of(host)
    except ValueError:
        return host[:_MAX_TEXT_CHARS]


def _bytes_of(cycle: RequestResponseCycle) -> int:
    headers = cycle.scope["headers"]
    return REQUEST_BYTES + sum(FIELD_BYTES + len(name) + len(value) for name, value in headers) + len(cycle.body)
