"""Which of the requests that have arrived is begun next: clients take turns, and whoever asks much waits for itself.

Whatever is worked on shares one processor and a few connections to the database, so that beginning all that arrive at
once makes each of them late. A few are begun in each turn of the loop, and no more are worked on at a time than there
is work for; the others wait here, where they cost nothing but their memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

BEGUN_AT_ONCE: Final = 4
"""Requests begun in one turn of the loop."""
WORKED_ON: Final = 16
"""Requests that are worked on at a time: enough for what they wait for, a database say, to have work all the time."""
SLOW_S: Final = 0.5
"""One that takes longer waits for what does not answer, and keeps nobody else from being begun."""


class Loop(Protocol):
    """What is needed of the event loop."""

    def time(self) -> float:
        """Its clock, in seconds."""

    def call_soon(self, call: Callable[[], None], /) -> object:
        """Call in the next turn."""

    def call_later(self, seconds: float, call: Callable[[], None], /) -> object:
        """Call after so many seconds."""


class Whole(Protocol):
    """A request that could be begun."""

    def begin(self, ticket: int) -> None:
        """It is its turn; `Turns.done` has to be called with the ticket."""

    def turn_away(self) -> None:
        """It will not have one: too many wait."""


class Turns:
    """The requests of one listener that wait for their turn, each client's in the order in which they came."""

    def __init__(self, most: int, loop: Loop) -> None:
        self._most = most
        self._loop = loop
        self._of: OrderedDict[str, OrderedDict[Whole, None]] = OrderedDict()
        """By client; the one that is first has the next turn."""
        self._count = self._ticket = 0
        self._worked_on: dict[int, float] = {}
        """Since when each ticket's request has been worked on."""
        self._called = self._watching = False

    def add(self, client: str, request: Whole) -> None:
        """Have a request wait; begin it at once where none waits and none was begun in this turn of the loop."""
        at_once = not self._called and not self._count and self._has_room()
        self._of.setdefault(client, OrderedDict())[request] = None
        self._count += 1
        self._call()
        if at_once:
            self._begin_one()

    def leave(self, client: str, request: Whole) -> None:
        """A request waits no more."""
        del self._of[client][request]
        self._count -= 1
        if not self._of[client]:
            del self._of[client]

    def done(self, ticket: int) -> None:
        """One that was begun is worked on no more: it is answered, or waits for its client. Repeats do nothing."""
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
        """The latest of whoever has most of them; among equals, of whoever came last."""
        client = max(reversed(self._of), key=lambda each: len(self._of[each]))
        request = next(reversed(self._of[client]))
        self.leave(client, request)
        request.turn_away()

    def _call(self) -> None:
        if not self._called:
            self._called = True
            self._loop.call_soon(self._turn)
