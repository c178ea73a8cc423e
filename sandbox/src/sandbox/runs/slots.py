"""The number of jobs that an account may run at a time; further ones wait in the queue."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Slots:
    """First come, first served; the limit is read each time and may change or be None, for no limit."""

    def __init__(self, cap: Callable[[], int | None]) -> None:
        self._cap = cap
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    @property
    def full(self) -> bool:
        """Whether the next job would have to wait."""
        cap = self._cap()
        return cap is not None and self.taken >= cap

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Holds one slot for the length of the block."""
        while self.full:
            await self._turn()
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._wake_one()

    def recheck(self) -> None:
        """Wakes all waiters after a change of the limit; those still over it wait again in the same order."""
        turns, self._waiting = self._waiting, deque()
        for turn in turns:
            if not turn.done():
                turn.set_result(None)

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._wake_one()
            raise

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
