"""Retention of the event log: old events are deleted by month; the tables of current state are kept.

Jobs, tracks, attempts and artifacts are kept, because they are needed to find files and to detect repeated idempotency
keys. Their versions also prevent a replayed event, whose row in the log was deleted, from changing a final state.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Final

from chassis.postgres.pool import Connection
from chassis.postgres.retention import RetentionTask, delete_rows_task
from log_sink.retention.partitions import limit_lock, month_after, months_wanted

_MONTHS: Final = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass ORDER BY 1"
_MONTH: Final = re.compile(r"^events_([0-9]{4})_([0-9]{2})$")
# Events whose month had no partition, since they were late or their producer's clock was wrong.
_DEFAULT_PARTITION: Final = """
DELETE FROM events_default WHERE (event_id, occurred_at) IN (
    SELECT event_id, occurred_at FROM events_default
    WHERE occurred_at < now() - $1::interval AND stored_at < now() - $1::interval LIMIT {limit}
)
"""
_QUARANTINE: Final = """
DELETE FROM quarantine WHERE (topic, kafka_partition, kafka_offset, digest) IN (
    SELECT topic, kafka_partition, kafka_offset, digest FROM quarantine
    WHERE quarantined_at < now() - $1::interval ORDER BY quarantined_at LIMIT {limit}
)
"""


def log_tasks(keep: timedelta) -> tuple[RetentionTask, ...]:
    """The retention tasks for rows that are older than `keep`: partitions, the default partition, the quarantine."""

    async def months(connection: Connection) -> AsyncGenerator[int, None]:
        now = await connection.fetchval("SELECT now()")
        for month in over([row[0] for row in await connection.fetch(_MONTHS)], now, keep):
            async with connection.transaction():
                await limit_lock(connection)
                await connection.execute("SELECT drop_events_partition($1)", month)
            yield 1

    return (
        RetentionTask("months_of_events", months),
        delete_rows_task("events", _DEFAULT_PARTITION, keep),
        delete_rows_task("quarantined", _QUARANTINE, keep),
    )


def over(partitions: list[str], now: datetime, keep: timedelta) -> list[datetime]:
    """The months of partitions with events older than `keep` only, except those that `ensure_partitions` would make."""
    first_wanted = months_wanted(now)[0]
    found = (match for name in partitions if (match := _MONTH.match(name)))
    months = (datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC) for match in found)
    return [month for month in months if month < first_wanted and month_after(month) <= now - keep]
