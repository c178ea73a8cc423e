"""The monthly partitions of the event log: created in advance, with their rows moved out of the default partition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from chassis.observability.logs import get_logger
from chassis.postgres.limits import bounded, transaction
from chassis.postgres.pool import TRANSIENT, Connection, Pool
from chassis.runtime.background import background
from log_sink.log_events import LogSinkEvent

if TYPE_CHECKING:
    from chassis.runtime.runtime import Runtime

AHEAD: Final = 3
"""The number of months after the current one for which partitions are created."""
EVERY_S: Final = 3600.0
AGAIN_S: Final = 60.0
"""The time after which partitions are tried again that could not be created."""
LOCK_LIMIT_S: Final = 2.0
"""The longest wait for the lock on the log, in seconds. Whoever reads or writes the log waits behind it."""


def month_after(month: datetime) -> datetime:
    """The first instant of the month after the one that begins with `month`."""
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def months_wanted(now: datetime) -> list[datetime]:
    """The first instants of the months that need a partition: the previous, the current and the next AHEAD months."""
    this = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last = this.replace(year=this.year - (this.month == 1), month=(this.month - 2) % 12 + 1)
    months = [last]
    while len(months) < AHEAD + 2:
        months.append(month_after(months[-1]))
    return months


async def ensure_partitions(pool: Pool, now: datetime | None = None) -> list[str]:
    """Create the missing partitions; returns their names. `now` is the database's time if it is None.

    An advisory lock keeps replicas from creating the same partition at the same time. Raises LockNotAvailableError if
    somebody uses the log for longer than LOCK_LIMIT_S, such as a backup.
    """
    made: list[str] = []
    if now is None:
        async with bounded(pool, None) as connection:
            now = await connection.fetchval("SELECT now()")
    for month in months_wanted(now):
        async with transaction(pool, None) as connection:  # No time limit: there may be many rows to move.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('log_sink.partitions'))")
            name = f"events_{month:%Y_%m}"
            if await connection.fetchval("SELECT to_regclass($1)", name) is None:
                await limit_lock(connection)
                await connection.execute("SELECT add_events_partition($1)", month)
                made.append(name)
    return made


async def limit_lock(connection: Connection) -> None:
    """Limit the wait for a lock to LOCK_LIMIT_S, for the rest of the transaction."""
    await connection.execute("SELECT set_config('lock_timeout', $1, true)", f"{LOCK_LIMIT_S * 1000:.0f}ms")


@asynccontextmanager
async def partitions_kept(pool: Pool, runtime: Runtime) -> AsyncIterator[None]:
    """Create the missing partitions, and the next ones in advance for as long as the block lasts."""
    wait_s = await _try_to_ensure(pool)
    async with background(runtime, "the partition maintenance", _keep(pool, runtime, wait_s)):
        yield


async def _keep(pool: Pool, runtime: Runtime, wait_s: float) -> None:
    while await runtime.pause(wait_s):
        wait_s = await _try_to_ensure(pool)


async def _try_to_ensure(pool: Pool) -> float:
    """Create the missing partitions; returns the time until the next try, in seconds."""
    log = get_logger("log_sink.retention.partitions")
    try:
        made = await ensure_partitions(pool)
    except TRANSIENT as error:
        # Until the partition exists, its rows go to the default partition.
        log.warning(LogSinkEvent.PARTITIONS_POSTPONED, error=repr(error))
        return AGAIN_S
    if made:
        log.info(LogSinkEvent.PARTITIONS_CREATED, names=made)
    return EVERY_S
