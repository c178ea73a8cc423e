"""One connection of a listener: what its client has to do next, by when, and how the connection is closed."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from typing import Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from chassis.http import refusals
from chassis.http.guard import Guard, Peer, Wait
from chassis.http.refusals import Refusal
from chassis.http.request_turns import RequestsInTurn
from chassis.http.turns import Turns

_RESET: Final = struct.pack("ii", 1, 0)
_MAX_DISCARDED_BYTES: Final = 1_048_576


class GuardedProtocol(RequestsInTurn, asyncio.BufferedProtocol):
    """Serves a connection within the limits of its listener's guard."""

    def __init__(self, config: Config, server_state: ServerState, guard: Guard, turns: Turns, peer: Peer) -> None:
        super().__init__(config, server_state, guard, turns, peer)
        self.waits: Wait | None = None
        self.since = 0.0
        self.unread_since: float | None = None
        self.buffered = 0
        self._place_released = False
        self._final_refusal: Refusal | None = None
        """Sent once the previous requests have been answered."""
        self._body_since = 0.0
        self._unread = self._discarded = 0

    # Called by the transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        # Every byte that the kernel does not take is one that the client has not read.
        transport.set_write_buffer_limits(high=0)
        self._guard.wait(self, Wait.HEADERS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        if (cycle := self._current_cycle) is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self._disconnected = True
        self._dequeue()
        self._guard.wait(self, None)
        self._guard.buffer(self, 0)
        if not self._running:  # A request that is still in progress keeps its place until it ends.
            self._release_place()
        super().connection_lost(exc)
        # These objects refer to each other and would stay in memory until the next garbage collection.
        self._current_cycle = None
        self._forget_request()
        self.held = b""

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer for the next read."""
        return self._guard.reading

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes were received into the buffer, which asyncio's own event loop uses."""
        self.data_received(bytes(self._guard.reading[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes were received; uvloop passes them on itself, from one buffer for all connections."""
        if self.input_closed:
            self._discard(len(data))
        else:
            self.receive(data)
            self._update_wait()

    def pause_writing(self) -> None:
        """The client does not read the response."""
        super().pause_writing()
        self._unread = self.transport.get_write_buffer_size()
        self._update_wait()

    def resume_writing(self) -> None:
        """The client has read all that was written."""
        super().resume_writing()
        if self._current_cycle is not None:
            self._update_wait()
        elif not self.transport.is_closing() and self.waits is not Wait.CLOSE:
            self._next_request()

    # Called by the server.

    def on_response_complete(self) -> None:
        """A request is answered: start the next one, or wait for it."""
        self.server_state.total_requests += 1
        self._current_cycle = None
        if not self.transport.is_closing() and not self.flow.write_paused:
            self._next_request()

    def shutdown(self) -> None:
        """The server stops: finish the requests in progress."""
        if self.input_closed and self._final_refusal is None:
            self.drop()
        else:
            super().shutdown()

    # Called by the guard.

    def has_unread_input(self) -> bool:
        """Whether the client has sent bytes that were not read yet."""
        if self.input_closed or self.waits in {Wait.READ, Wait.CLOSE}:  # It does not wait for input.
            return False
        fd = self.transport.get_extra_info("socket").fileno()
        return fd >= 0 and fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) != bytes(4)

    def expire(self, now: float) -> bool:
        """The client has not acted in time; returns False if its period is extended."""
        match self.waits:
            case Wait.HEADERS if self.head_bytes:
                self.close_with_refusal(refusals.HEADERS_TOO_SLOW)
            case Wait.BODY:
                return self._expire_body(now)
            case Wait.READ if self.transport.get_write_buffer_size() < self._unread:
                self._unread = self.transport.get_write_buffer_size()
                self._guard.buffer(self, self._wait_and_bytes()[1])
                return False
            case Wait.READ:
                self._guard.note("answer-not-read", self.peer)
                self.drop()
            case Wait.CLOSE:
                self.drop()
            case _:
                if self.waits is Wait.HEADERS:
                    self._guard.note("nothing-sent", self.peer)
                self.transport.close()
                self._await_close()
        return True

    def release_memory(self) -> None:
        """Release all counted memory: drop the requests that were sent ahead, or close the connection."""
        if self._current_cycle is None or self.waits is not None:
            self.drop()
        elif self._queued_for is not None:
            self._dequeue()
            self.reject_request()
        else:
            self._close_with(refusals.TOO_MANY_PIPELINED)

    def drop(self) -> None:
        """Close the connection at once, and have the kernel discard its buffers."""
        if self.waits is not Wait.REQUEST:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.input_closed = True
        self._dequeue()
        self.transport.abort()
        self._release_place()

    # Called by the turns.

    def start_request(self, ticket: int) -> None:
        """Start the request, as its turn has come."""
        super().start_request(ticket)
        self._update_wait()

    def reject_request(self) -> None:
        """Refuse the request, as too many requests wait."""
        self._guard.note(refusals.BUSY.kind, self.peer)
        self._pending_app = self._queued_for = self._current_cycle = None
        self.in_body = False
        self._send_and_close(self._response_bytes(refusals.BUSY))

    # State changes.

    def close_with_refusal(self, why: Refusal) -> None:
        """Send `why` once the previous requests have been answered, then close the connection."""
        self._guard.note(why.kind, self.peer)
        self._close_with(why)

    def _close_with(self, why: Refusal) -> None:
        self.input_closed, self.held = True, b""
        if self.in_body and self._abandon_body():
            return
        if self._current_cycle is None:
            self._send_and_close(self._response_bytes(why))
            return
        self._final_refusal = why
        self.flow.pause_reading()
        self._update_wait()

    def _next_request(self) -> None:
        """Start the next request, or wait for one: the previous one is answered, and its response is being sent."""
        if self._final_refusal is not None:
            self._send_and_close(self._response_bytes(self._final_refusal))
        elif self.closes or self.in_body or (self.held and self._guard.client_waiting):
            # The rest of a refused body is not needed; requests sent ahead would keep the place from other clients.
            self._send_and_close(b"")
        else:
            self.parse_held()
            self._update_wait()

    def _update_wait(self) -> None:
        """Record what the client has to do next, and the bytes held for it."""
        if self.transport.is_closing() or self.waits is Wait.CLOSE:
            return
        wait, size = self._wait_and_bytes()
        if wait is not self.waits or (wait is Wait.BODY and self.in_new_body):
            self._guard.wait(self, wait)
            self.in_new_body = False
            self._body_since = self.since
        if size != self.buffered:
            self._guard.buffer(self, size)

    def _wait_and_bytes(self) -> tuple[Wait | None, int]:
        ahead = len(self.held)
        if self.flow.write_paused:
            return Wait.READ, self._unread + ahead
        if self._current_cycle is not None:
            if self.in_body:
                return Wait.BODY, self.request_bytes
            return None, ahead if self._queued_for is None else ahead + self._queued_bytes
        if self.head_bytes:
            return Wait.HEADERS, self.incomplete_head_bytes
        self._forget_request()
        return Wait.REQUEST, 0

    def _expire_body(self, now: float) -> bool:
        if self.flow.read_paused:  # Reading is paused: the client is not the slow side.
            self._body_since = now
            return False
        took = now - self._body_since
        if took < self.limits.body_timeout_s and self.body_bytes >= self.limits.body_rate * took:
            return False
        self.close_with_refusal(refusals.BODY_TOO_SLOW)
        return True

    def _abandon_body(self) -> bool:
        """Tell the application that the body ends early; returns True if that closed the connection."""
        self.in_body = False
        cycle = self._current_cycle
        if cycle is None:
            return False
        cycle.disconnected, cycle.waiting_for_100_continue = True, False
        cycle.message_event.set()
        self._dequeue()
        self._current_cycle = None
        if cycle.response_started:
            self.drop()
        return cycle.response_started

    def _response_bytes(self, why: Refusal) -> bytes:
        return why.answer(self.server_state.default_headers)

    def _send_and_close(self, answer: bytes) -> None:
        """Send a final response and give the client time to read it: closing at once would discard it."""
        self.input_closed = True
        self._final_refusal = None
        self._forget_request()
        self.held = b""
        with suppress(OSError, RuntimeError):  # The client may have closed it already; uvloop raises RuntimeError.
            self.transport.write(answer)
            self.transport.write_eof()
        self.flow.resume_reading()
        self._await_close()

    def _discard(self, nbytes: int) -> None:
        if self.waits is not Wait.CLOSE:
            self.flow.pause_reading()
            return
        self._discarded += nbytes
        if self._discarded > _MAX_DISCARDED_BYTES:
            self.drop()

    def _forget_request(self) -> None:
        """Drop the references to the latest request; the pipeline and its cycle keep their own."""
        self.cycle = self.scope = self.headers = None  # type: ignore[assignment]

    def _await_close(self) -> None:
        self._guard.wait(self, Wait.CLOSE)
        self._guard.buffer(self, 0)

    def _release_place(self) -> None:
        if not self._place_released:
            self._place_released = True
            self._guard.release(self)
