"""One connection of a listener: what its client is waited for, how long, and how it is ended."""

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
_MOST_DISCARDED: Final = 1_048_576


class GuardedProtocol(RequestsInTurn, asyncio.BufferedProtocol):
    """Serves a connection within the limits of its listener's guard."""

    def __init__(self, config: Config, server_state: ServerState, guard: Guard, turns: Turns, peer: Peer) -> None:
        super().__init__(config, server_state, guard, turns, peer)
        self.waits: Wait | None = None
        self.since = 0.0
        self.unread_since: float | None = None
        self.buffered = 0
        self._released = False
        self._last_word: Refusal | None = None
        """To be said when what came before has been answered."""
        self._body_since = 0.0
        self._unread = self._discarded = 0

    # What the transport says.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is here."""
        super().connection_made(transport)
        # Every byte that the kernel does not take is one that the client leaves unread.
        transport.set_write_buffer_limits(high=0)
        self._guard.wait(self, Wait.HEADERS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        if (cycle := self._serving) is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self._gone = True
        self._leave_turns()
        self._guard.wait(self, None)
        self._guard.buffer(self, 0)
        if not self._running:  # What a client has left behind keeps its place until it is done.
            self._release()
        super().connection_lost(exc)
        # Its parts refer to each other: what they hold would be kept until the garbage is collected.
        self._serving = None
        self._forget_request()
        self.held = b""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._guard.reading

    def buffer_updated(self, nbytes: int) -> None:
        """The client has sent something."""
        if self.over:
            self._discard(nbytes)
        else:
            self.take(bytes(self._guard.reading[:nbytes]))
            self._settle()

    def pause_writing(self) -> None:
        """The client leaves an answer unread."""
        super().pause_writing()
        self._unread = self.transport.get_write_buffer_size()
        self._settle()

    def resume_writing(self) -> None:
        """The client has read all there was."""
        super().resume_writing()
        if self._serving is not None:
            self._settle()
        elif not self.transport.is_closing() and self.waits is not Wait.CLOSE:
            self._go_on()

    # What the server says.

    def on_response_complete(self) -> None:
        """A request is answered: go on with the next one, or wait for it."""
        self.server_state.total_requests += 1
        self._serving = None
        if not self.transport.is_closing() and not self.flow.write_paused:
            self._go_on()

    def shutdown(self) -> None:
        """The server stops: finish what is being worked on."""
        if self.over and self._last_word is None:
            self.drop()
        else:
            super().shutdown()

    # What the guard says.

    def has_sent(self) -> bool:
        """Whether the client has sent something that was not read yet."""
        if self.over or self.waits in {Wait.READ, Wait.CLOSE}:  # That is not what is waited for.
            return False
        fd = self.transport.get_extra_info("socket").fileno()
        return fd >= 0 and fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) != bytes(4)

    def expire(self, now: float) -> bool:
        """The client has not done what it was waited for; False if it has another term."""
        match self.waits:
            case Wait.HEADERS if self.head_bytes:
                self.refuse(refusals.HEADERS_TOO_SLOW)
            case Wait.BODY:
                return self._expire_body(now)
            case Wait.READ if self.transport.get_write_buffer_size() < self._unread:
                self._unread = self.transport.get_write_buffer_size()
                self._guard.buffer(self, self._next()[1])
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
                self._end()
        return True

    def relieve(self) -> None:
        """Hold nothing that is counted any more: what was sent ahead of its turn is left, or the connection ended."""
        if self._serving is None or self.waits is not None:
            self.drop()
        elif self._in_turn_as is not None:
            self._leave_turns()
            self.turn_away()
        else:
            self._take_no_more(refusals.TOO_MANY_PIPELINED)

    def drop(self) -> None:
        """End the connection at once, and keep nothing of it, in the kernel neither."""
        if self.waits is not Wait.REQUEST:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.over = True
        self._leave_turns()
        self.transport.abort()
        self._release()

    # What the turns say.

    def begin(self, ticket: int) -> None:
        """It is the turn of what is being served."""
        super().begin(ticket)
        self._settle()

    def turn_away(self) -> None:
        """Too many requests wait for their turn."""
        self._guard.note(refusals.BUSY.kind, self.peer)
        self._unbegun = self._in_turn_as = self._serving = None
        self.in_body = False
        self._say(self._answer(refusals.BUSY))

    # How it goes on.

    def refuse(self, why: Refusal) -> None:
        """Answer with `why` after the requests before it have been answered, and then end the connection."""
        self._guard.note(why.kind, self.peer)
        self._take_no_more(why)

    def _take_no_more(self, why: Refusal) -> None:
        self.over, self.held = True, b""
        if self.in_body and self._gives_up_body():
            return
        if self._serving is None:
            self._say(self._answer(why))
            return
        self._last_word = why
        self.flow.pause_reading()
        self._settle()

    def _go_on(self) -> None:
        """Take up the next request, or wait for one: the one before is answered, and the answer on its way."""
        if self._last_word is not None:
            self._say(self._answer(self._last_word))
        elif self.in_body or (self.held and self._guard.wanted):
            # Nobody wants the rest of a body; and what was sent ahead would keep the place from others.
            self._say(b"")
        else:
            self.take_held()
            self._settle()

    def _settle(self) -> None:
        """Note what the client has to do next, and what is held for it."""
        if self.transport.is_closing() or self.waits is Wait.CLOSE:
            return
        wait, size = self._next()
        if wait is not self.waits or (wait is Wait.BODY and self.in_new_body):
            self._guard.wait(self, wait)
            self.in_new_body = False
            self._body_since = self.since
        if size != self.buffered:
            self._guard.buffer(self, size)

    def _next(self) -> tuple[Wait | None, int]:
        ahead = len(self.held)
        if self.flow.write_paused:
            return Wait.READ, self._unread + ahead
        if self._serving is not None:
            if self.in_body:
                return Wait.BODY, self.request_bytes
            return None, ahead if self._in_turn_as is None else ahead + self._in_turn_bytes
        if self.head_bytes:
            return Wait.HEADERS, self.begun_bytes
        self._forget_request()
        return Wait.REQUEST, 0

    def _expire_body(self, now: float) -> bool:
        if self.flow.read_paused:  # It is not the client that is slow.
            self._body_since = now
            return False
        took = now - self._body_since
        if took < self.limits.body_timeout_s and self.body_bytes >= self.limits.body_rate * took:
            return False
        self.refuse(refusals.BODY_TOO_SLOW)
        return True

    def _gives_up_body(self) -> bool:
        """The application hears that the rest of a body does not come; True if that ended the connection."""
        self.in_body = False
        cycle = self._serving
        if cycle is None:
            return False
        cycle.disconnected, cycle.waiting_for_100_continue = True, False
        cycle.message_event.set()
        self._leave_turns()
        self._serving = None
        if cycle.response_started:
            self.drop()
        return cycle.response_started

    def _answer(self, why: Refusal) -> bytes:
        return why.answer(self.server_state.default_headers)

    def _say(self, answer: bytes) -> None:
        """Send a last answer, and give the client a moment to read it: closing at once would throw it away."""
        self.over = True
        self._last_word = None
        self._forget_request()
        self.held = b""
        with suppress(OSError):  # It may be gone already.
            self.transport.write(answer)
            self.transport.write_eof()
        self.flow.resume_reading()
        self._end()

    def _discard(self, nbytes: int) -> None:
        if self.waits is not Wait.CLOSE:
            self.flow.pause_reading()
            return
        self._discarded += nbytes
        if self._discarded > _MOST_DISCARDED:
            self.drop()

    def _forget_request(self) -> None:
        """Keep nothing of the latest request but what the pipeline and its cycle have."""
        self.cycle = self.scope = self.headers = None  # type: ignore[assignment]

    def _end(self) -> None:
        self._guard.wait(self, Wait.CLOSE)
        self._guard.buffer(self, 0)

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._guard.release(self)
