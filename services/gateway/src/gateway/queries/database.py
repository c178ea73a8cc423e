"""Postgres as the gateway asks it: a request waits for it for some seconds in all, and not at all while it is silent.

A request may ask several times; what it has waited counts together, so that its answer has one limit. While the server
answers nothing, one request a second finds out whether it does again, and the others are told at once that it does not.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import asyncpg

from chassis.postgres.limits import GIVE_BACK_S, Lease, Silent, leased
from chassis.postgres.pool import Pool

READ_LIMIT_S: Final = 3.5
"""How long one request waits for Postgres, all its questions together."""
SHARED_LIMIT_S: Final = READ_LIMIT_S + 0.5
"""How long one waits at most for a read that many share; a read that fails does so before."""
SURE_AFTER_S: Final = 3.0
"""A server that has answered nobody for so long, while it was asked, is taken for silent."""
ASK_AGAIN_S: Final = 1.0

NOT_MADE: Final = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)
"""The service that makes a view has not been started yet, or is older than the view."""


@dataclass(slots=True)
class _Patience:
    left_s: float = READ_LIMIT_S


_patience: ContextVar[_Patience | None] = ContextVar("patience", default=None)


def begin_request() -> None:
    """Let what runs in this context from now on wait for Postgres as one request does."""
    _patience.set(_Patience())


class Database:
    """The pool, with what is known of the server's silence."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._heard_at = time.monotonic()
        self._silent = False
        self._ask_at = 0.0

    @asynccontextmanager
    async def asked(self, within_s: float = READ_LIMIT_S) -> AsyncIterator[Lease]:
        """A connection for some questions, for `within_s` seconds, or for what is left of the request's.

        Raises TimeoutError when they are over, at once where nothing is left or the server is known to be silent.
        """
        patience = _patience.get() or _Patience()
        within_s = min(within_s, patience.left_s)
        if within_s <= GIVE_BACK_S:
            raise TimeoutError("this request has waited for the database as long as it may")
        began = time.monotonic()
        self._require_hope(began, within_s)
        try:
            async with leased(self._pool, within_s) as lease:
                yield lease
        except Silent:
            self._unanswered(began)
            raise
        except TimeoutError:
            raise  # It has too much to do, or the pool has.
        except Exception:
            self._answered()
            raise
        else:
            self._answered()
        finally:
            patience.left_s -= time.monotonic() - began

    def _require_hope(self, now: float, within_s: float) -> None:
        if not self._silent:
            return
        if now < self._ask_at:
            raise Silent("the database does not answer")
        self._ask_at = now + within_s + ASK_AGAIN_S  # For all others, as long as this one finds out.

    def _answered(self) -> None:
        self._heard_at, self._silent = time.monotonic(), False

    def _unanswered(self, since: float) -> None:
        now = time.monotonic()
        if self._silent or (self._heard_at < since and now - since >= SURE_AFTER_S):
            self._silent, self._ask_at = True, now + ASK_AGAIN_S
