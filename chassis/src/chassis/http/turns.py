"""Scheduling of received requests: clients take turns, so a client with many requests delays only its own.

All requests share one processor and a few database connections; starting all of them at once would delay each. A few
are started in each iteration of the event loop, up to a limit of requests in progress; the others wait here and take
only memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

BEGUN_AT_ONCE: Final = 4
"""Requests started in one iteration of the event loop."""
WORKED_ON: Final = 16
"""Requests in progress at a time: enough to keep what they wait for, as the database, busy."""
SLOW_S: Final = 0.5
"""A request that takes longer than this many seconds waits for something that does not answer; it stops counting as in
progress.
"""


class Loop(Protocol):
    """The parts of the event loop that are used here."""

    def time(self) -> float:
        """Its clock, in seconds."""

    def call_soon(self, call: Callable[[], None], /) -> object:
        """Call in the next iteration."""

    def call_later(self, seconds: float, call: Callable[[], None], /) -> object:
        """Call after so many seconds."""


class Whole(Protocol):
    """A request that is ready to start."""

    def begin(self, ticket: int) -> None:
        """Start it; `Turns.done` has to be called with the ticket when it ends."""

    def turn_away(self) -> None:
        """Refuse it, as too many wait."""


class Turns:
    """The waiting requests of one listener; each client's in order of arrival."""

    def __init__(self, most: int, loop: Loop) -> None:
        self._most = most
        self._loop = loop
        self._of: OrderedDict[str, OrderedDict[Whole, None]] = OrderedDict()
        """By client; the first client has the next turn."""
        self._count = self._ticket = 0
        self._worked_on: dict[int, float] = {}
        """When each ticket's request was started, in seconds of the loop's clock."""
        self._called = self._watching = False

    def add(self, client: str, request: Whole) -> None:
        """Add a request; start it at once if none waits and none was started in this iteration of the loop."""
        at_once = not self._called and not self._count and self._has_room()
        self._of.setdefault(client, OrderedDict())[request] = None
        self._count += 1
        self._call()
        if at_once:
            self._begin_one()

    def leave(self, client: str, request: Whole) -> None:
        """Remove a waiting request."""
        del self._of[client][request]
        self._count -= 1
        if not self._of[client]:
            del self._of[client]

    def done(self, ticket: int) -> None:
        """A started request is no longer in progress: it is answered, or waits for its client. Idempotent."""
        if self._worked_on.pop(ticket, None) is not None and self._count:
            self._call()

    def _turn(self) -> None:
        self._called = False
        while self._count > self._most:
            self._turn_one_away()
        for _ in range(BEGUN_AT_ONCE):
            if not self._count or not self._has_room():
                return
            self._begin_one()
        if self._count:
            self._call()

    def _begin_one(self) -> None:
        client, waiting = next(iter(self._of.items()))
        request = next(iter(waiting))
        self.leave(client, request)
        if client in self._of:
            self._of.move_to_end(client)
        self._ticket += 1
        self._worked_on[self._ticket] = self._loop.time()
        request.begin(self._ticket)

    def _has_room(self) -> bool:
        if len(self._worked_on) < WORKED_ON:
            return True
        oldest, since = next(iter(self._worked_on.items()))
        left_s = since + SLOW_S - self._loop.time()
        if left_s <= 0:
            del self._worked_on[oldest]
            return True
        if not self._watching:
            self._watching = True
            self._loop.call_later(left_s, self._look)
        return False

    def _look(self) -> None:
        self._watching = False
        if self._count:
            self._call()

    def _turn_one_away(self) -> None:
        """Refuse the latest request of the client with the most; among equals, of the client that came last."""
        client = max(reversed(self._of), key=lambda each: len(self._of[each]))
        request = next(reversed(self._of[client]))
        self.leave(client, request)
        request.turn_away()

    def _call(self) -> None:
        if not self._called:
            self._called = True
            self._loop.call_soon(self._turn)
