"""Coalesces concurrent calls: one read of a value, or one statement for many items, serves all callers of a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

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


class Grouped(Generic[K, V]):
    """Calls `work` with the items of concurrent calls together.

    It runs once at a time: a call that finds it idle starts it at once, and those that arrive meanwhile share the next
    run.
    """

    def __init__(
        self, work: Callable[[Sequence[K]], Awaitable[Sequence[V]]], *, common: tuple[type[Exception], ...]
    ) -> None:
        """`work` returns the result of each item, in their order.

        `common` are errors that no single item causes. After any other, each item of the group is tried alone.
        """
        self._work = work
        self._common = common
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._running: asyncio.Task[None] | None = None

    async def get(self, item: K) -> V:
        """The result of one item. Raises the exceptions of `work`."""
        result: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if self._running is None or self._running.done():
            # The work has the time budget and the trace of none of the requests.
            self._running = asyncio.create_task(self._run(), context=Context())
        return await result

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            await self._settle([(item, result) for item, result in group if not result.done()])

    async def _settle(self, group: Sequence[tuple[K, asyncio.Future[V]]]) -> None:
        if not group:
            return
        try:
            found = await self._work([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - raised by the calls
            if len(group) > 1 and not isinstance(error, self._common):
                for each in group:
                    await self._settle([each])
                return
            for _, result in group:
                if not result.done():
                    result.set_exception(error)
            return
        for (_, result), value in zip(group, found, strict=True):
            if not result.done():
                result.set_result(value)
