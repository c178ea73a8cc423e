"""What is read often and must be true: one read serves all who ask at about the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

AT_MOST_OLD_S: Final = 0.5


class SingleFlight(Generic[T]):
    """The outcome of `read`, begun no earlier than half a second before it was asked for."""

    def __init__(
        self, read: Callable[[], Awaitable[T]], *, within_s: float, at_most_old_s: float = AT_MOST_OLD_S
    ) -> None:
        """`within_s` is how long one who asks waits at most, for the reads of others and for one of its own."""
        self._read = read
        self._within_s = within_s
        self._at_most_old_s = at_most_old_s
        self._turn = asyncio.Lock()
        self._known: tuple[float, T] | None = None
        self._failed: tuple[float, Exception] | None = None

    async def get(self) -> T:
        """What is true now. A flood of calls waits for one read, and shares it, its failure too.

        Raises what `read` raises, and TimeoutError.
        """
        asked_at = time.monotonic()
        async with asyncio.timeout(self._within_s), self._turn:
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
