"""Coalesces concurrent reads of the same value: one read serves all callers that arrive at about the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

AT_MOST_OLD_S: Final = 0.5
"""Seconds by which a read may have begun before the call that it serves."""


class SingleFlight(Generic[T]):
    """Shares the result of `read` between callers; a result is at most `at_most_old_s` seconds older than the call."""

    def __init__(
        self, read: Callable[[], Awaitable[T]], *, within_s: float, at_most_old_s: float = AT_MOST_OLD_S
    ) -> None:
        """`within_s` is the limit in seconds for one caller, including the time for reads of other callers."""
        self._read = read
        self._within_s = within_s
        self._at_most_old_s = at_most_old_s
        self._lock = asyncio.Lock()
        self._known: tuple[float, T] | None = None
        self._failed: tuple[float, Exception] | None = None

    async def get(self) -> T:
        """The value that `read` returns. Callers that wait for the same read share its result or its exception.

        Raises the exceptions of `read`, and TimeoutError after `within_s`.
        """
        asked_at = time.monotonic()
        async with asyncio.timeout(self._within_s), self._lock:
            if self._failed is not None and self._failed[0] >= asked_at:
                raise self._failed[1]
            if self._known is None or self._known[0] < asked_at - self._at_most_old_s:
                began = time.monotonic()
                try:
                    self._known = began, await self._read()
                except Exception as error:
                    self._failed = time.monotonic(), error
                    raise
            return self._known[1]
