"""The heartbeat: a row that says that this adapter runs. It says nothing about the provider or the key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from adapter_kit.log_events import LedgerEvent
from chassis.observability.logs import get_logger
from chassis.postgres.limits import bounded
from chassis.postgres.pool import TRANSIENT, Pool
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime
from contracts.generation import Provider

BEATS: Final = 3
"""How many beats an adapter has to miss to count as silent."""
RETRY_S: Final = 0.5
WRITE_LIMIT_S: Final = 5.0
_WRITE: Final = """
INSERT INTO heartbeat (provider, beat_at) VALUES ($1, now())
ON CONFLICT (provider) DO UPDATE SET beat_at = now()
"""


class Heartbeat:
    """Writes the row of one provider's adapter; any number of replicas may write it."""

    def __init__(self, provider: Provider, pool: Pool, runtime: Runtime, silent_s: float) -> None:
        """`silent_s`: the seconds without a beat after which the adapter counts as silent."""
        self._provider = provider
        self._pool = pool
        self._runtime = runtime
        self._every_s = silent_s / BEATS
        self._log = get_logger("adapter_kit.heartbeat")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write the row before the block begins, and several times a limit for as long as it lasts."""
        await self._beat()
        async with background(self._runtime, "the heartbeat", self._run()):
            yield

    async def _run(self) -> None:
        while await self._runtime.pause(self._every_s):
            await self._beat()

    async def _beat(self) -> None:
        """Write the row; while the database is away that is tried often, so that the adapter is heard of soon after."""
        while not await self._written():
            if not await self._runtime.pause(RETRY_S):
                return

    async def _written(self) -> bool:
        try:
            async with bounded(self._pool, WRITE_LIMIT_S) as connection:
                await connection.execute(_WRITE, self._provider)
        except TRANSIENT as error:
            self._log.warning(LedgerEvent.HEARTBEAT_NOT_WRITTEN, error=repr(error))
            return False
        return True
