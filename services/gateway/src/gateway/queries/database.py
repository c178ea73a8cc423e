"""Access to PostgreSQL within a time budget for each request.

All queries of one request share the budget, so that the time to its response is bounded. While the server does not
respond, one request per second checks whether it does again, and all others fail at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import asyncpg

from chassis.postgres.limits import CANCEL_S, Lease, NotResponding, leased
from chassis.postgres.pool import Pool

READ_LIMIT_S: Final = 3.5
"""Seconds that one request waits for PostgreSQL, over all its queries."""
SHARED_LIMIT_S: Final = READ_LIMIT_S + 0.5
"""Seconds that a request waits at most for a read shared with others; longer than the limit of the read itself."""
SURE_AFTER_S: Final = 3.0
"""Seconds without a response to this or any other query after which the server counts as silent."""
ASK_AGAIN_S: Final = 1.0
"""Seconds between two checks of a silent server."""

VIEW_MISSING: Final = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)
"""The service that creates the view has not been started yet, or is older than the view."""


@dataclass(slots=True)
class _TimeBudget:
    left_s: float = READ_LIMIT_S


_time_budget: ContextVar[_TimeBudget | None] = ContextVar("time_budget", default=None)


def begin_request() -> None:
    """Give the current context the time budget of a new request."""
    _time_budget.set(_TimeBudget())


class Database:
    """The connection pool, and whether the server responds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._responded_at = time.monotonic()
        self._silent = False
        self._check_at = 0.0

    @contextmanager
    def budgeted(self, within_s: float) -> Iterator[float]:
        """Count the time of the block against the request's budget; yields the seconds that it may take.

        They are `within_s`, or the rest of the budget if that is shorter. Raises TimeoutError at once if the budget is
        used up or the server is silent.
        """
        budget = _time_budget.get() or _TimeBudget()
        within_s = min(within_s, budget.left_s)
        if within_s <= CANCEL_S:
            raise TimeoutError("the request has used up its time for the database")
        began = time.monotonic()
        if self._silent and began < self._check_at:
            raise NotResponding("the database does not answer")
        try:
            yield within_s
        finally:
            budget.left_s -= time.monotonic() - began

    @asynccontextmanager
    async def lease(self, within_s: float = READ_LIMIT_S) -> AsyncIterator[Lease]:
        """A connection for as long as `budgeted` allows. Raises TimeoutError when that time is over, or as it does."""
        with self.budgeted(within_s) as limit_s:
            began = time.monotonic()
            if self._silent:  # This request checks; all others fail until it is done.
                self._check_at = began + limit_s + ASK_AGAIN_S
            try:
                async with leased(self._pool, limit_s) as lease:
                    yield lease
            except NotResponding:
                self._unanswered(began)
                raise
            except TimeoutError:
                raise  # The server or the pool is overloaded, not silent.
            except Exception:
                self._answered()
                raise
            else:
                self._answered()

    def _answered(self) -> None:
        self._responded_at, self._silent = time.monotonic(), False

    def _unanswered(self, since: float) -> None:
        now = time.monotonic()
        if self._silent or (self._responded_at < since and now - since >= SURE_AFTER_S):
            self._silent, self._check_at = True, now + ASK_AGAIN_S
