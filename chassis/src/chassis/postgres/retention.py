"""Retention: what a service deletes once it is old enough, hour by hour and in small pieces.

One replica at a time runs a service's retention tasks, under an advisory lock. Each batch is a transaction of its own,
so a pass that is stopped or killed anywhere has done nothing by half, and the next one goes on from there.

A row may go only when nothing that can still arrive depends on it. Kafka may deliver again whatever it still holds, so
rows are kept for longer than it holds anything that is consumed, and for longer than twice the time that a client may
give a job. `SEGUE_ROW_RETENTION_DAYS` is refused below that. What is replayed from further back, from a topic that
somebody keeps for longer, must be harmless by itself; the modules that purge say why it is.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chassis.observability.log_events import PostgresEvent
from chassis.observability.logs import get_logger
from chassis.observability.metrics import RETENTION_DELETED
from chassis.postgres.limits import advisory_lock, bounded
from chassis.postgres.pool import TRANSIENT, Connection, Pool
from chassis.runtime.background import background

if TYPE_CHECKING:
    from chassis.runtime.runtime import Runtime

EVERY_S: Final = 3600.0
FIRST_AFTER_S: Final = 300.0
BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class RetentionTask:
    """One kind of thing to delete."""

    what: str
    """In the plural, for metrics and logs."""
    batches: Callable[[Connection], AsyncGenerator[int, None]]
    """Deletes batch after batch, and tells of each how many there were."""


def delete_rows_task(what: str, statement: str, keep: timedelta) -> RetentionTask:
    """Deletes rows by `statement`: a DELETE that takes how long rows are kept, $1, and how many may go at once, $2."""

    async def batches(connection: Connection) -> AsyncGenerator[int, None]:
        deleted = BATCH
        while deleted == BATCH:
            deleted = int((await connection.execute(statement, keep, BATCH)).rpartition(" ")[2])
            yield deleted

    return RetentionTask(what, batches)


class RetentionWorker:
    """Runs a service's retention tasks again and again."""

    def __init__(self, pool: Pool, runtime: Runtime, schema: str, tasks: Sequence[RetentionTask]) -> None:
        """`schema` names the lock: replicas that share it take turns."""
        self._pool = pool
        self._runtime = runtime
        self._lock = lock_of(schema)
        self._tasks = tasks
        self._log = get_logger("chassis.postgres.retention")

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the retention tasks for as long as the block lasts."""
        return background(self._runtime, "the retention worker", self._run())

    async def once(self) -> dict[str, int] | None:
        """Run all tasks now; returns how many things were deleted, or None while another replica is at it."""
        async with advisory_lock(self._pool, self._lock) as ours:
            if not ours:
                return None
            async with bounded(self._pool, None) as connection:
                return {task.what: await self._do(task, connection) for task in self._tasks}

    async def _run(self) -> None:
        wait_s = FIRST_AFTER_S * random.uniform(0.2, 1)
        while await self._runtime.pause(wait_s):
            wait_s = EVERY_S * random.uniform(0.9, 1.1)
            try:
                done = await self.once()
            except TRANSIENT as error:
                self._log.warning(PostgresEvent.RETENTION_POSTPONED, error=repr(error))
                continue
            if done and any(done.values()):
                self._log.info(PostgresEvent.RETENTION_DELETED, deleted=done)

    async def _do(self, task: RetentionTask, connection: Connection) -> int:
        total = 0
        try:
            async with aclosing(task.batches(connection)) as batches:
                async for done in batches:
                    RETENTION_DELETED.labels(task.what).inc(done)
                    total += done
                    if self._runtime.stopping.is_set():
                        break
        except TRANSIENT:
            raise
        except Exception:  # noqa: BLE001 - a task that fails must not end the service that has it
            self._log.exception(PostgresEvent.RETENTION_TASK_FAILED, task=task.what)
        return total


def lock_of(schema: str) -> str:
    """The name of the advisory lock under which a schema's retention tasks run."""
    return f"segue.housekeeping.{schema}"
