"""Limits on the database: a connection is got, used and given back within one limit, whatever the server does.

asyncpg bounds a statement. It does not bound what follows one that was given up: the cancel request, the rollback, and
the reset before a connection goes back into the pool. A server that is silent, because it is stopped or because its
packets are lost, answers none of them. So the limit here is one on the connection: it is aborted when its time is up,
which ends every wait on it at once. The server rolls back what an aborted connection had begun.
https://magicstack.github.io/asyncpg/current/api/index.html#asyncpg.pool.Pool.release
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Literal

import asyncpg

from chassis.postgres.pool import TRANSIENT, Connection, Pool

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pooled = PoolConnectionProxy[asyncpg.Record]

GIVE_BACK_S: Final = 0.5
"""How long a server may take to confirm that a statement is cancelled and a transaction is rolled back."""
RESET_S: Final = 2.0
"""How long it may take to reset a connection that goes back into the pool."""
TRANSACTION_LIMIT_S: Final = 15.0
"""For the one transaction of a batch of messages."""
LOOP_LIMIT_S: Final = 10.0
"""For one turn of a loop, which tries again."""
STOPPING_LIMIT_S: Final = 5.0
"""For either, in a process that has been told to stop."""

Isolation = Literal["read_committed", "repeatable_read", "serializable"]


class Silent(TimeoutError):
    """The server answered nothing, not even a request to cancel: it is stopped, or its packets are lost."""


class Lease:
    """A connection of the pool for a limited time."""

    def __init__(self, connection: Pooled, ends_at: float | None) -> None:
        """`ends_at` is by the loop's clock; None: when it is given back."""
        self.connection = connection
        self.silent = False
        """It was aborted, as the server had not answered in time."""
        self._ends_at = ends_at
        self._abortion: asyncio.TimerHandle | None = None
        if ends_at is not None:
            self._abort_at(ends_at)

    @asynccontextmanager
    async def transaction(self, *, isolation: Isolation | None = None, readonly: bool = False) -> AsyncIterator[None]:
        """A transaction: committed at the end of the block, rolled back if that raises."""
        begun = self.connection.transaction(isolation=isolation, readonly=readonly)
        await begun.start()
        try:
            yield
        except BaseException:
            self.end_within(GIVE_BACK_S)
            with suppress(*TRANSIENT):  # What an aborted connection had begun is rolled back as well.
                await begun.rollback()
            raise
        await begun.commit()

    def end_within(self, seconds: float) -> None:
        """Abort the connection after `seconds`, or when it was to end, unless it has been given back by then."""
        latest = asyncio.get_running_loop().time() + seconds
        if self._ends_at is None or latest < self._ends_at:
            self._ends_at = latest
            self._abort_at(latest)

    async def give_back(self, pool: Pool) -> None:
        """Return the connection to the pool, or drop it if it cannot be reset. Raises nothing of the server's."""
        self.end_within(RESET_S)
        try:
            with suppress(*TRANSIENT):
                # Without a limit of its own it would be the statement's, which is longer than ours.
                await pool.release(self.connection, timeout=RESET_S)
        finally:
            if self._abortion is not None:
                self._abortion.cancel()

    def _abort_at(self, when: float) -> None:
        if self._abortion is not None:
            self._abortion.cancel()
        self._abortion = asyncio.get_running_loop().call_at(when, self._abort)

    def _abort(self) -> None:
        with suppress(asyncpg.InterfaceError):  # It was given back at this very moment.
            self.connection.terminate()
            self.silent = True


@asynccontextmanager
async def leased(pool: Pool, within_s: float | None) -> AsyncIterator[Lease]:
    """A connection that is got, used and given back within `within_s` seconds in all.

    None is for work that takes as long as it takes: its statements have the pool's limits, and only getting the
    connection and giving it back are bounded. Raises TimeoutError when the time is up, and Silent, which is one, if the
    server does not answer at all; then the pool drops its idle connections too, since they would hang as this one did.
    """
    began_at = asyncio.get_running_loop().time()
    ends_at = None if within_s is None else began_at + within_s
    used_until = None if ends_at is None else ends_at - GIVE_BACK_S
    lease = Lease(await _acquired(pool, used_until or began_at + LOOP_LIMIT_S), ends_at)
    try:
        try:
            async with asyncio.timeout_at(used_until):
                yield lease
        except BaseException:
            lease.end_within(GIVE_BACK_S)
            raise
        finally:
            await lease.give_back(pool)
            if lease.silent:
                drop_idle(pool)
    except TRANSIENT as error:
        if lease.silent:
            raise Silent("the database does not answer") from error
        raise


@asynccontextmanager
async def bounded(pool: Pool, within_s: float | None) -> AsyncIterator[Connection]:
    """The connection of a lease, as `leased` bounds it."""
    async with leased(pool, within_s) as lease:
        yield lease.connection


@asynccontextmanager
async def transaction(
    pool: Pool, within_s: float | None, *, isolation: Isolation | None = None, readonly: bool = False
) -> AsyncIterator[Connection]:
    """A connection in a transaction, as `leased` bounds it."""
    async with leased(pool, within_s) as lease, lease.transaction(isolation=isolation, readonly=readonly):
        yield lease.connection


@asynccontextmanager
async def advisory_lock(pool: Pool, name: str) -> AsyncIterator[bool]:
    """Try for the lock of that name, and hold it for the length of the block; yields whether we have it.

    A transaction of its own holds it, so that it holds through a connection pooler as well. That transaction has no
    snapshot, which would keep rows from being vacuumed. It takes a connection beside those that the block uses.
    """
    async with leased(pool, None) as lease, lease.transaction():
        ours = await lease.connection.fetchval("SELECT pg_try_advisory_xact_lock(hashtext($1))", name)
        # In the simple protocol, which also drops the portal of the query above, and with it its snapshot.
        await lease.connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        try:
            yield ours
        finally:
            # A server that is silent must not hold up whoever lets go of the lock.
            lease.end_within(GIVE_BACK_S)


def drop_idle(pool: Pool) -> None:
    """Have every connection that nobody uses be made anew when it is next wanted."""
    # Private: the public expire_connections() closes each in a task that waits for the server, and that nobody awaits.
    pooled: Any = pool
    for holder in pooled._holders:
        if holder.is_idle():
            holder.terminate()


async def _acquired(pool: Pool, by: float) -> Pooled:
    try:
        async with asyncio.timeout_at(by):
            return await pool.acquire()
    except TimeoutError as error:
        if pool.get_size() < pool.get_max_size():  # There was room for a new one, and it could not be had.
            raise Silent("the database does not answer") from error
        raise
