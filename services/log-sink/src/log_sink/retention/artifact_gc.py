"""Garbage collection in the artifact store, started by an operator: a survey of the files, and their deletion."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from chassis.artifacts import STORE_ERRORS, ArtifactStore, ListedFile
from chassis.errors import CannotStart
from chassis.postgres.connect import error_text
from chassis.postgres.limits import advisory_lock, bounded
from chassis.postgres.pool import TRANSIENT, Connection, Pool, open_pool
from chassis.postgres.retention import lock_of
from chassis.postgres.rights import missing_rights
from chassis.settings.service import DEFAULT_ROW_RETENTION_DAYS
from log_sink.retention.artifact_expiry import DUE, LEFT_OVER, Deleted, delete_all, expire
from log_sink.retention.orphans import Standing, orphans_again, standings

SCHEMA: Final = "log_sink"
AGE_OF_ORPHANS: Final = timedelta(days=1)
_RIGHTS_LIMIT_S: Final = 10.0
_NO_TABLES: Final = "DATABASE_URL: the log-sink has not made its tables there yet; start it first"

_DUE: Final = f"""
SELECT count(*) FILTER (WHERE {DUE}) AS due, coalesce(sum(size_bytes) FILTER (WHERE {DUE}), 0)::bigint AS due_bytes,
    count(*) FILTER (WHERE {LEFT_OVER}) AS left_over,
    coalesce(sum(size_bytes) FILTER (WHERE {LEFT_OVER}), 0)::bigint AS left_over_bytes
FROM artifacts WHERE removed_at IS NULL
"""  # noqa: S608 - consists of names in this package only
_ROWS: Final = "SELECT count(*) FROM artifacts WHERE removed_at IS NULL"
_NEWEST: Final = """
SELECT job_id, attempt_id, name, size_bytes, content_type, made_at, expired_at FROM artifacts
ORDER BY made_at DESC, attempt_id DESC, name LIMIT $1
"""
_TOTALS: Final = """
SELECT count(*) FILTER (WHERE expired_at IS NULL) AS kept,
    coalesce(sum(size_bytes) FILTER (WHERE expired_at IS NULL), 0)::bigint AS kept_bytes,
    count(*) FILTER (WHERE expired_at IS NOT NULL) AS expired
FROM artifacts
"""


class CannotCollect(Exception):
    """The store or the database cannot be used; the message is the reason, in one line."""


@dataclass(frozen=True, slots=True)
class Tally:
    """A number of files and their total size in bytes."""

    files: int = 0
    size_bytes: int = 0

    def plus(self, file: ListedFile) -> Tally:
        """The tally with one more file."""
        return Tally(self.files + 1, self.size_bytes + file.size_bytes)


@dataclass(frozen=True, slots=True)
class Survey:
    """The files in the store, and those that would be deleted."""

    due: Tally
    """Files to be deleted for their age, by the rows."""
    left_over: Tally
    """Files that have expired before and could not be deleted then, by the rows."""
    orphans: tuple[ListedFile, ...]
    standing: Mapping[Standing, Tally]
    """All files of jobs, by standing."""


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """A file that has a row in the read model."""

    job_id: str
    attempt_id: str
    name: str
    size_bytes: int
    content_type: str
    made_at: datetime
    expired_at: datetime | None


@dataclass(frozen=True, slots=True)
class Totals:
    """The number of kept files, with their size, and of expired files, by the read model."""

    kept: Tally
    expired: int


class Collection:
    """The artifact store and its rows in the database; the retention lock is held while it is used."""

    def __init__(
        self,
        connection: Connection,
        store: ArtifactStore,
        keep: timedelta | None,
        orphan_age: timedelta,
        keep_rows: timedelta,
    ) -> None:
        self._connection = connection
        self._store = store
        self._keep = keep
        self._ages = (orphan_age, keep_rows)

    async def survey(self) -> Survey:
        """List all files, without changes. Raises CannotCollect if rows exist and none of their files does."""
        tallies: dict[Standing, Tally] = {}
        orphans: list[ListedFile] = []
        async for files in standings(self._connection, self._store, *self._ages):
            for file, standing in files:
                tallies[standing] = tallies.get(standing, Tally()).plus(file)
            orphans += [file for file, standing in files if standing == "orphan"]
        rows = await self._connection.fetchval(_ROWS)
        if rows and "kept" not in tallies:
            raise CannotCollect(f"none of the {rows} files in the database is in this store: is it the right one?")
        row = await self._connection.fetchrow(_DUE, self._keep)
        due, due_bytes, left_over, left_over_bytes = row or (0, 0, 0, 0)
        return Survey(Tally(due, due_bytes), Tally(left_over, left_over_bytes), tuple(orphans), tallies)

    async def delete(self, found: Survey) -> tuple[Deleted, Deleted]:
        """Delete the files that are due or left over, and the orphans of the survey that still are.

        Returns the result of each.
        """
        expired, orphans = Deleted(), Deleted()
        async for batch in expire(self._connection, self._store, self._keep):
            expired += batch
        async for files in orphans_again(self._connection, self._store, *self._ages, found.orphans):
            gone = await delete_all(self._store, [file.key for file in files])
            size = sum(file.size_bytes for file, is_gone in zip(files, gone, strict=True) if is_gone)
            orphans += Deleted(sum(gone), size, len(gone) - sum(gone))
        return expired, orphans


@asynccontextmanager
async def collection(
    database_url: str,
    store_url: str,
    keep: timedelta | None,
    orphan_age: timedelta = AGE_OF_ORPHANS,
    keep_rows: timedelta = timedelta(days=DEFAULT_ROW_RETENTION_DAYS),
) -> AsyncIterator[Collection]:
    """Hold the retention lock for as long as the block lasts. Raises CannotCollect if the lock is held by another
    process, or if the database or the store cannot be used.
    """
    try:
        store = ArtifactStore.open(store_url)
        async with _tables(database_url, max_size=2) as pool, advisory_lock(pool, lock_of(SCHEMA)) as ours:
            if not ours:
                raise CannotCollect("the log-sink is deleting old files right now: try again in a minute")
            async with bounded(pool, None) as connection:
                yield Collection(connection, store, keep, orphan_age, keep_rows)
    except CannotStart as error:
        raise CannotCollect(str(error)) from error
    except TRANSIENT as error:
        raise CannotCollect(f"DATABASE_URL or ARTIFACT_STORE_URL went away: {type(error).__name__}") from error
    except STORE_ERRORS as error:
        raise CannotCollect(f"ARTIFACT_STORE_URL cannot be read: {type(error).__name__}") from error


async def stored_artifacts(database_url: str, limit: int) -> tuple[Sequence[StoredArtifact], Totals]:
    """The newest files in the read model, up to `limit`, and the totals of all. Raises CannotCollect."""
    try:
        async with _tables(database_url, max_size=1) as pool, bounded(pool, None) as connection:
            rows = await connection.fetch(_NEWEST, limit)
            totals = await connection.fetchrow(_TOTALS)
    except CannotStart as error:
        raise CannotCollect(str(error)) from error
    except TRANSIENT as error:
        raise CannotCollect(f"DATABASE_URL: {type(error).__name__}") from error
    kept = Tally(totals["kept"], totals["kept_bytes"]) if totals else Tally()
    return [StoredArtifact(*row) for row in rows], Totals(kept, totals["expired"] if totals else 0)


@asynccontextmanager
async def _tables(database_url: str, max_size: int) -> AsyncIterator[Pool]:
    """A pool for the tables of the log-sink. Raises CannotCollect if they are not there, or not for this role."""
    async with open_pool(database_url, SCHEMA, max_size=max_size) as pool:
        try:
            yield pool
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InsufficientPrivilegeError) as error:
            # To a role that may not use the schema its tables do not exist.
            async with bounded(pool, _RIGHTS_LIMIT_S) as connection:
                missing = await missing_rights(connection, SCHEMA)
            if missing is None and isinstance(error, asyncpg.InsufficientPrivilegeError):
                missing = f"DATABASE_URL: {error_text(error)}"
            raise CannotCollect(missing or _NO_TABLES) from error
