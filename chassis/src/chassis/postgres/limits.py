"""Time limits on the database: acquiring, using and releasing a connection take one limit in total.

asyncpg limits a statement, but not the steps after a statement that timed out: the cancel request, and the rollback of
what is open before the connection returns to the pool. A server that is stopped, or whose packets are lost, responds to
none of them. So the limit applies to the connection: at its end the connection is aborted, which ends every wait on
it. The server rolls back the transaction of an aborted connection.
https://magicstack.github.io/asyncpg/current/api/index.html#asyncpg.pool.Pool.release
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import asyncpg

from chassis.postgres.observed_pool import ObservedPool
from chassis.postgres.pool import TRANSIENT, Connection, Pool
from chassis.runtime.dependencies import failed_with

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pooled = PoolConnectionProxy[asyncpg.Record]

CANCEL_S: Final = 0.5
"""Seconds that a server has to confirm a cancelled statement and a rollback."""
RELEASE_S: Final = 2.0
"""Seconds that it has to roll back what a connection that returns to the pool has left open."""
TRANSACTION_LIMIT_S: Final = 15.0
"""Seconds for the transaction of a batch of messages."""
LOOP_LIMIT_S: Final = 10.0
"""Seconds for one iteration of a loop, which is retried."""
STOPPING_LIMIT_S: Final = 5.0
"""Seconds for either in a process that is stopping."""

AWAY: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""Errors that say that the database cannot be used now."""
_NOT_AWAY: Final = (TimeoutError, asyncpg.QueryCanceledError)
"""Those among them that may as well be due to the work."""

# A function, not the view: the transaction would hold locks on the view's catalogs, for as long as the process lives.
_FIRST_FREE: Final = """
SELECT name, pg_backend_pid() AS pid, (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid())) AS began_at
FROM unnest($1::text[]) AS name WHERE pg_try_advisory_xact_lock(hashtext(name)) LIMIT 1
"""
_END_HOLDER: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity a WHERE pid = $1 AND backend_start = $2 AND EXISTS (
    SELECT FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory' AND granted AND objsubid = 1
        AND (classid::bigint << 32) | objid::bigint = hashtext($3)
)
"""

Isolation = Literal["read_committed", "repeatable_read", "serializable"]


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock, and the server process that holds it; its id may be used again, but not with the same start."""

    name: str
    connection: Connection
    pid: int
    began_at: datetime


class NotResponding(TimeoutError):
    """The server does not respond, not even to a cancel request: it is stopped, or its packets are lost."""


class Lease:
    """A connection of the pool for a limited time."""

    def __init__(self, connection: Pooled, ends_at: float | None) -> None:
        """`ends_at` is a time of the loop's clock; None: no limit until the release."""
        self.connection = connection
        self.aborted = False
        """The connection was aborted, as the server did not respond in time."""
        self._ends_at = ends_at
        self._abortion: asyncio.TimerHandle | None = None
        if ends_at is not None:
            self._abort_at(ends_at)

    @asynccontextmanager
    async def transaction(self, *, isolation: Isolation | None = None, readonly: bool = False) -> AsyncIterator[None]:
        """A transaction, committed at the end of the block, or rolled back if the block raises."""
        block = self.connection.transaction(isolation=isolation, readonly=readonly)
        await block.start()
        try:
            yield
        except BaseException:
            self.end_within(CANCEL_S)
            with suppress(*TRANSIENT):  # The server also rolls back the transaction of an aborted connection.
                await block.rollback()
            raise
        await block.commit()

    def end_within(self, seconds: float) -> None:
        """Abort the connection after `seconds` or at its limit, whichever is earlier, unless it has been released."""
        latest = asyncio.get_running_loop().time() + seconds
        if self._ends_at is None or latest < self._ends_at:
            self._ends_at = latest
            self._abort_at(latest)

    async def release(self, pool: Pool) -> None:
        """Return the connection to the pool, or close it if it cannot be rolled back. Raises no error of the server."""
        self.end_within(RELEASE_S)
        # The default time-out is that of statements, which is longer. A task of its own: if this one is cancelled
        # meanwhile, the pool goes on returning the connection, and asyncio would log its error as never retrieved.
        returning = asyncio.ensure_future(pool.release(self.connection, timeout=RELEASE_S))
        returning.add_done_callback(_retrieved)
        try:
            with suppress(*TRANSIENT):
                await asyncio.shield(returning)
        finally:
            if self._abortion is not None:
                self._abortion.cancel()

    def _abort_at(self, when: float) -> None:
        if self._abortion is not None:
            self._abortion.cancel()
        self._abortion = asyncio.get_running_loop().call_at(when, self._abort)

    def _abort(self) -> None:
        with suppress(asyncpg.InterfaceError):  # It has just been released.
            self.connection.terminate()
            self.aborted = True


@asynccontextmanager
async def leased(pool: Pool, within_s: float | None) -> AsyncIterator[Lease]:
    """A connection that is acquired, used and released within `within_s` seconds in total.

    None is for work of any duration: its statements have the pool's limits, and only the acquisition and the release
    are bounded. Raises TimeoutError at the limit, or its subclass NotResponding if the server does not respond at all;
    the pool then closes its idle connections as well, since they would hang too.
    """
    began_at = asyncio.get_running_loop().time()
    ends_at = None if within_s is None else began_at + within_s
    used_until = None if ends_at is None else ends_at - CANCEL_S
    try:
        lease = Lease(await _acquired(pool, used_until or began_at + LOOP_LIMIT_S), ends_at)
    except AWAY as error:
        _note(pool, error)
        raise
    try:
        try:
            async with asyncio.timeout_at(used_until):
                yield lease
        except BaseException:
            lease.end_within(CANCEL_S)
            raise
        finally:
            await lease.release(pool)
            if lease.aborted:
                drop_idle(pool)
        _note(pool, None)
    except TRANSIENT as error:
        if lease.aborted:
            _note(pool, NotResponding())
            raise NotResponding("the database does not answer") from error
        _note(pool, error)
        raise


@asynccontextmanager
async def bounded(pool: Pool, within_s: float | None) -> AsyncIterator[Connection]:
    """The connection of a lease; limits and errors are those of `leased`."""
    async with leased(pool, within_s) as lease:
        yield lease.connection


@asynccontextmanager
async def transaction(
    pool: Pool, within_s: float | None, *, isolation: Isolation | None = None, readonly: bool = False
) -> AsyncIterator[Connection]:
    """A connection with an open transaction; limits and errors are those of `leased`."""
    async with leased(pool, within_s) as lease, lease.transaction(isolation=isolation, readonly=readonly):
        yield lease.connection


@asynccontextmanager
async def advisory_lock(pool: Pool, name: str) -> AsyncIterator[bool]:
    """Try to acquire the lock of that name for the duration of the block; yields whether it was acquired.

    It takes one connection in addition to those of the block.
    """
    async with first_free_lock(pool, [name]) as acquired:
        yield acquired is not None


@asynccontextmanager
async def first_free_lock(pool: Pool, names: Sequence[str]) -> AsyncIterator[HeldLock | None]:
    """Try to acquire one of the locks, the first that is free, for the duration of the block.

    Yields None if all are held by others. A separate transaction holds
    the lock, so that it also works through a connection pooler. That transaction has no snapshot, which would prevent
    vacuuming.
    """
    async with leased(pool, None) as lease, lease.transaction():
        row = await lease.connection.fetchrow(_FIRST_FREE, names)
        # Sent in the simple protocol, which also closes the portal of the query above and so releases its snapshot.
        await lease.connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        try:
            yield None if row is None else HeldLock(row["name"], lease.connection, row["pid"], row["began_at"])
        finally:
            # A server that does not respond must not delay the release of the lock.
            lease.end_within(CANCEL_S)


async def end_holder(pool: Pool, lock: HeldLock) -> None:
    """End the server process that holds a lock which this process has lost, if it still holds it.

    Where the network has lost the end of a connection, the server does not notice it for up to two hours.
    """
    async with bounded(pool, LOOP_LIMIT_S) as connection:
        await connection.execute(_END_HOLDER, lock.pid, lock.began_at, lock.name)


def _retrieved(task: asyncio.Future[None]) -> None:
    if not task.cancelled():
        task.exception()


def _note(pool: Pool, error: Exception | None) -> None:
    """Note how the database was seen. An error that says nothing about it is not noted, such as a lock not granted."""
    if isinstance(pool, ObservedPool):
        if error is None:
            pool.database.works()
        elif isinstance(error, NotResponding) or (isinstance(error, AWAY) and not isinstance(error, _NOT_AWAY)):
            pool.database.fails(failed_with(error))


def drop_idle(pool: Pool) -> None:
    """Close all idle connections; the pool opens new ones when they are needed."""
    # Private, because the public expire_connections() closes each in a background task that waits for the server.
    pooled: Any = pool
    for holder in pooled._holders:
        if holder.is_idle():
            holder.terminate()


async def _acquired(pool: Pool, by: float) -> Pooled:
    try:
        async with asyncio.timeout_at(by):
            return await pool.acquire()
    except TimeoutError as error:
        if pool.get_size() < pool.get_max_size():  # The pool could open a connection, but the server did not respond.
            raise NotResponding("the database does not answer") from error
        raise
