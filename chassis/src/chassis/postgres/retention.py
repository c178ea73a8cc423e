"""Retention: deletes expired data of a service every hour, in small batches.

One replica at a time runs a service's retention tasks, under an advisory lock. Each batch is a separate transaction, so
a pass can be interrupted at any point, and the next one continues from there.

A row may be deleted only if no message that can still arrive depends on it. Kafka may redeliver any message that it
still holds, and dead letters may be replayed, so rows are kept longer than any topic, and longer than twice the longest
deadline of a job; a lower `SEGUE_ROW_RETENTION_DAYS` is rejected. Replays from a topic with a longer retention must be
harmless; the modules that delete rows state why they are.
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
    """The deletion of one kind of data."""

    what: str
    """The name of the data in the plural, for metrics and logs."""
    batches: Callable[[Connection], AsyncGenerator[int, None]]
    """Deletes one batch after the other, and yields the number of deleted items of each."""


def delete_rows_task(what: str, statement: str, keep: timedelta) -> RetentionTask:
    """A task that runs `statement`, a DELETE with the parameter $1, the retention, and `{limit}`, the batch size.

    The batch size is a part of the text: a plan that is made without it is for a tenth of the table, and reads it all.
    """

    async def batches(connection: Connection) -> AsyncGenerator[int, None]:
        limited, deleted = statement.format(limit=BATCH), BATCH
        while deleted == BATCH:
            deleted = int((await connection.execute(limited, keep)).rpartition(" ")[2])
            yield deleted

    return RetentionTask(what, batches)


class RetentionWorker:
    """Runs a service's retention tasks every hour."""

    def __init__(self, pool: Pool, runtime: Runtime, schema: str, tasks: Sequence[RetentionTask]) -> None:
        """`schema` determines the lock: of replicas with the same schema, one at a time runs the tasks."""
        self._pool = pool
        self._runtime = runtime
        self._lock = lock_of(schema)
        self._tasks = tasks
        self._log = get_logger("chassis.postgres.retention")

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the retention tasks for as long as the block lasts."""
        return background(self._runtime, "the retention worker", self._run())

    async def once(self) -> dict[str, int] | None:
        """Run all tasks now; returns the number of deleted items by task, or None if another replica runs them.

        A task that fails does not prevent the others. Raises one of TRANSIENT if the connection is lost.
        """
        async with advisory_lock(self._pool, self._lock) as acquired:
            if not acquired:
                return None
            async with bounded(self._pool, None) as connection:
                return {task.what: await self._run_task(task, connection) for task in self._tasks}

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

    async def _run_task(self, task: RetentionTask, connection: Connection) -> int:
        total = 0
        try:
            async with aclosing(task.batches(connection)) as batches:
                async for done in batches:
                    RETENTION_DELETED.labels(task.what).inc(done)
                    total += done
                    if self._runtime.stopping.is_set():
                        break
        except TRANSIENT as error:
            if connection.is_closed():
                raise
            # Such as a lock that was not granted, which says nothing about the other tasks.
            self._log.warning(PostgresEvent.RETENTION_TASK_POSTPONED, task=task.what, error=repr(error))
        except Exception:  # noqa: BLE001 - a failed task must not end the service
            self._log.exception(PostgresEvent.RETENTION_TASK_FAILED, task=task.what)
        return total


def lock_of(schema: str) -> str:
    """The name of the advisory lock under which a schema's retention tasks run."""
    return f"segue.housekeeping.{schema}"
