"""The monthly partitions of the log: made ahead of need, and late ones taken out of the default partition."""

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
"""Months that exist beyond the current one."""
EVERY_S: Final = 3600.0


def month_after(month: datetime) -> datetime:
    """The first instant of the month after the one that begins with `month`."""
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def months_wanted(now: datetime) -> list[datetime]:
    """The beginnings of the months that need a partition: the last, this, and the next ones."""
    this = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last = this.replace(year=this.year - (this.month == 1), month=(this.month - 2) % 12 + 1)
    months = [last]
    while len(months) < AHEAD + 2:
        months.append(month_after(months[-1]))
    return months


async def ensure_partitions(pool: Pool, now: datetime | None = None) -> list[str]:
    """Make the partitions that are missing now, by the database's clock; returns their names. Replicas take turns."""
    made: list[str] = []
    if now is None:
        async with bounded(pool, None) as connection:
            now = await connection.fetchval("SELECT now()")
    for month in months_wanted(now):
        async with transaction(pool, None) as connection:  # It may have many late rows to move.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('log_sink.partitions'))")
            name = f"events_{month:%Y_%m}"
            if await connection.fetchval("SELECT to_regclass($1)", name) is None:
                await _make(connection, name, month)
                made.append(name)
    return made


async def _make(connection: Connection, name: str, month: datetime) -> None:
    end = month_after(month)
    await connection.execute(f"CREATE TABLE {name} (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    # Postgres refuses to attach a month of which the default partition holds rows already.
    await connection.execute("LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE")
    late = "DELETE FROM events_default WHERE occurred_at >= $1 AND occurred_at < $2 RETURNING *"
    moved = f"WITH late AS ({late}) INSERT INTO {name} SELECT * FROM late"  # noqa: S608 - the name is our own
    await connection.execute(moved, month, end)
    span = f"FROM ('{month.isoformat()}') TO ('{end.isoformat()}')"
    await connection.execute(f"ALTER TABLE events ATTACH PARTITION {name} FOR VALUES {span}")


@asynccontextmanager
async def partitions_kept(pool: Pool, runtime: Runtime) -> AsyncIterator[None]:
    """Make the partitions that are missing, then, for as long as the block lasts, the next ones ahead of need."""
    await ensure_partitions(pool)
    async with background(runtime, "the partition maintenance", _keep(pool, runtime)):
        yield


async def _keep(pool: Pool, runtime: Runtime) -> None:
    log = get_logger("log_sink.retention.partitions")
    while await runtime.pause(EVERY_S):
        try:
            made = await ensure_partitions(pool)
        except TRANSIENT as error:
            # Until a partition is made, the default partition holds its rows.
            log.warning(LogSinkEvent.PARTITIONS_POSTPONED, error=repr(error))
            continue
        if made:
            log.info(LogSinkEvent.PARTITIONS_CREATED, names=made)
