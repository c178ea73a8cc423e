"""Expires artifacts: old files are deleted from the store, and their rows record the time.

First the row is marked as expired, so that no client is referred to a file that may be gone; then the file is deleted;
then the row is marked as removed. If the process dies in between, the next run deletes the files of all marked rows
again, which has no effect on files that are already gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from asyncpg import Record

from chassis.artifact_keys import artifact_key
from chassis.artifacts import STORE_ERRORS, ArtifactStore
from chassis.observability.logs import get_logger
from chassis.postgres.pool import Connection
from chassis.postgres.retention import RetentionTask
from log_sink.log_events import LogSinkEvent
from log_sink.metrics import EXPIRED_BYTES, NOT_DELETED

BATCH: Final = 200
FAILED_BATCHES: Final = 3
"""The number of batches in a row without any deleted file after which the store counts as unusable."""
DELETES_AT_ONCE: Final = 8
DELETE_LIMIT_S: Final = 30.0
_log = get_logger("log_sink.retention.artifact_expiry")

LEFT_OVER: Final = "removed_at IS NULL AND expired_at IS NOT NULL"
"""Selects the marked rows whose files could not be deleted yet."""
DUE: Final = "removed_at IS NULL AND expired_at IS NULL AND made_at < now() - $1::interval"
"""Selects the rows whose files are older than the retention period, $1, and are not marked. None are for null."""
# The newest first: those that can never be deleted are the oldest ones, and do not come before the others.
_LEFT_OVER: Final = f"""
SELECT attempt_id, name, size_bytes FROM artifacts
WHERE {LEFT_OVER} AND ($1::text IS NULL OR (expired_at, attempt_id, name) < (
    SELECT expired_at, attempt_id, name FROM artifacts WHERE attempt_id = $1 AND name = $2))
ORDER BY expired_at DESC, attempt_id DESC, name DESC LIMIT $3
"""  # noqa: S608 - consists of names in this module only
# The batch size is a part of the text: a plan that is made without it is for a tenth of the table, and reads it all.
_EXPIRE: Final = f"""
UPDATE artifacts SET expired_at = now(), kept_days = extract(epoch FROM $1::interval) / 86400
WHERE (attempt_id, name) IN (
    SELECT attempt_id, name FROM artifacts WHERE {DUE} ORDER BY made_at, attempt_id, name LIMIT {{limit}} FOR UPDATE
)
RETURNING attempt_id, name, size_bytes
"""  # noqa: S608 - consists of names in this module only
# Both statements lock rows in the same order: the service and `segue artifacts gc` may run at the same time.
_REMOVED: Final = """
WITH gone AS (
    SELECT attempt_id, name FROM artifacts
    WHERE (attempt_id, name) IN (SELECT * FROM unnest($1::text[], $2::text[]))
    ORDER BY made_at, attempt_id, name FOR UPDATE
)
UPDATE artifacts SET removed_at = now() FROM gone
WHERE (artifacts.attempt_id, artifacts.name) = (gone.attempt_id, gone.name)
"""


@dataclass(frozen=True, slots=True)
class Deleted:
    """The result of deleting files: how many were deleted, their bytes, and how many could not be deleted."""

    files: int = 0
    size_bytes: int = 0
    failed: int = 0

    def __add__(self, other: Deleted) -> Deleted:
        return Deleted(self.files + other.files, self.size_bytes + other.size_bytes, self.failed + other.failed)


def artifact_expiry_task(store: ArtifactStore, keep: timedelta) -> RetentionTask:
    """The retention task that deletes the files that are older than `keep`."""

    async def batches(connection: Connection) -> AsyncGenerator[int, None]:
        async for batch in expire(connection, store, keep):
            yield batch.files

    return RetentionTask("artifacts", batches)


async def expire(connection: Connection, store: ArtifactStore, keep: timedelta | None) -> AsyncGenerator[Deleted, None]:
    """Delete the files of rows that are marked already, then those that are older than `keep`, in batches; None deletes
    only the former.

    Yields the result of each batch. A file that cannot be deleted is skipped; after FAILED_BATCHES of one kind in a row
    in which none could be deleted, the rest of the kind is left for the next run.
    """
    for rows_of_batch in (_left_over(connection), _due(connection, keep)):
        failed = 0
        async with aclosing(rows_of_batch):
            async for rows in rows_of_batch:
                batch = await _delete(connection, store, rows)
                yield batch
                failed = 0 if batch.files else failed + 1
                if failed == FAILED_BATCHES:
                    break


async def _left_over(connection: Connection) -> AsyncGenerator[Sequence[Record], None]:
    last: tuple[str | None, str | None] = (None, None)
    while rows := await connection.fetch(_LEFT_OVER, *last, BATCH):
        last = (rows[-1]["attempt_id"], rows[-1]["name"])
        yield rows


async def _due(connection: Connection, keep: timedelta | None) -> AsyncGenerator[Sequence[Record], None]:
    """Mark the rows that are due as expired, batch by batch."""
    while rows := await connection.fetch(_EXPIRE.format(limit=BATCH), keep):
        yield rows


async def _delete(connection: Connection, store: ArtifactStore, rows: Sequence[Record]) -> Deleted:
    gone = await delete_all(store, [artifact_key(row["attempt_id"], row["name"]) for row in rows])
    removed = [row for row, is_gone in zip(rows, gone, strict=True) if is_gone]
    await connection.execute(_REMOVED, [row["attempt_id"] for row in removed], [row["name"] for row in removed])
    batch = Deleted(len(removed), sum(row["size_bytes"] for row in removed), len(rows) - len(removed))
    EXPIRED_BYTES.inc(batch.size_bytes)
    NOT_DELETED.inc(batch.failed)
    _log.info(LogSinkEvent.ARTIFACTS_EXPIRED, files=batch.files, bytes=batch.size_bytes, failed=batch.failed)
    return batch


async def delete_all(store: ArtifactStore, keys: Sequence[str]) -> list[bool]:
    """Delete files; returns for each whether it no longer exists."""
    semaphore = asyncio.Semaphore(DELETES_AT_ONCE)

    async def delete(key: str) -> bool:
        try:
            async with semaphore, asyncio.timeout(DELETE_LIMIT_S):
                await store.delete(key)
        except FileNotFoundError:
            return True
        except STORE_ERRORS as error:
            # The error's text is not logged: it may contain the store's credentials.
            _log.warning(LogSinkEvent.ARTIFACT_NOT_DELETED, key=key, error=type(error).__name__)
            return False
        return True

    return await asyncio.gather(*(delete(key) for key in keys))
