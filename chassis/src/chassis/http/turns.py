"""Scheduling of received requests: clients take turns, so a client with many requests delays only its own.

All requests share one processor and a few database connections; starting all of them at once would delay each. A few
are started in each iteration of the event loop, up to a limit of requests in progress; the others wait here and take
only memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

STARTED_PER_ITERATION: Final = 4
"""Requests started in one iteration of the event loop."""
MAX_IN_PROGRESS: Final = 32
"""Requests in progress at a time: enough to keep what they wait for busy, first the database and then Kafka."""
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


class WaitingRequest(Protocol):
    """A request that is ready to start."""

    def start_request(self, ticket: int) -> None:
        """Start it; `Turns.done` has to be called with the ticket when it ends."""

    def reject_request(self) -> None:
        """Refuse it, as too many wait."""


class Turns:
    """The waiting requests of one listener; each client's in order of arrival."""

    def __init__(self, most: int, loop: Loop) -> None:
        self._most = most
        self._loop = loop
        self._queues: OrderedDict[str, OrderedDict[WaitingRequest, None]] = OrderedDict()
        """By client; the first client has the next turn."""
        self._count = self._ticket = 0
        self._in_progress: dict[int, float] = {}
        """When each ticket's request was started, in seconds of the loop's clock."""
        self._scheduled = self._recheck_planned = False

    def add(self, client: str, request: WaitingRequest) -> None:
        """Add a request; start it at once if none waits and none was started in this iteration of the loop."""
        at_once = not self._scheduled and not self._count and self._has_room()
        self._queues.setdefault(client, OrderedDict())[request] = None
        self._count += 1
        self._schedule()
        if at_once:
            self._start_one()

    def remove(self, client: str, request: WaitingRequest) -> None:
        """Remove a waiting request."""
        del self._queues[client][request]
        self._count -= 1
        if not self._queues[client]:
            del self._queues[client]

    def done(self, ticket: int) -> None:
        """A started request is no longer in progress: it is answered, or waits for its client. Idempotent."""
        if self._in_progress.pop(ticket, None) is not None and self._count:
            self._schedule()

    def _start_some(self) -> None:
        self._scheduled = False
        while self._count > self._most:
            self._reject_one()
        for _ in range(STARTED_PER_ITERATION):
            if not self._count or not self._has_room():
                return
            self._start_one()
        if self._count:
            self._schedule()

    def _start_one(self) -> None:
        client, waiting = next(iter(self._queues.items()))
        request = next(iter(waiting))
        self.remove(client, request)
        if client in self._queues:
            self._queues.move_to_end(client)
        self._ticket += 1
        self._in_progress[self._ticket] = self._loop.time()
        request.start_request(self._ticket)

    def _has_room(self) -> bool:
        if len(self._in_progress) < MAX_IN_PROGRESS:
            return True
        oldest, since = next(iter(self._in_progress.items()))
        left_s = since + SLOW_S - self._loop.time()
        if left_s <= 0:
            del self._in_progress[oldest]
            return True
        if not self._recheck_planned:
            self._recheck_planned = True
            self._loop.call_later(left_s, self._recheck)
        return False

    def _recheck(self) -> None:
        self._recheck_planned = False
        if self._count:
            self._schedule()

    def _reject_one(self) -> None:
        """Refuse the latest request of the client with the most; among equals, of the client that came last."""
        client = max(reversed(self._queues), key=lambda each: len(self._queues[each]))
        request = next(reversed(self._queues[client]))
        self.remove(client, request)
        request.reject_request()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._start_some)
