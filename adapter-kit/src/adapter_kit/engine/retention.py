"""Retention of the ledger: attempts that ended long ago are deleted, without the risk that one is paid for again.

The row of an attempt decides whether its POST may be sent, so the row must exist for as long as its command may be
delivered again. Two rules ensure this. Rows are kept for longer than Kafka retains commands. And a row is deleted only
when its deadline, too, is that long past: if the command is delivered after that, from a topic with longer retention or
by hand, the new row has the same past deadline, and `step` ends it as `expired` without a POST.

Nothing else needs the row by then. A lost submit is searched for in the listing from at most half an hour before it, so
that an older run is never taken for it. A callback or a resolution for an attempt without a row changes nothing. An
attempt with a follow-up has a `next_action_at`, and is kept.

Events that Kafka rejected stay parked in the outbox: they were never published, and deleting them would hide that.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from chassis.postgres.retention import RetentionTask, delete_rows_task

_PURGE: Final = """
DELETE FROM attempts WHERE attempt_id IN (
    SELECT attempt_id FROM attempts
    WHERE state IN ('succeeded', 'failed', 'cancelled') AND next_action_at IS NULL AND updated_at < now() - $1::interval
      AND deadline_at < now() - $1::interval
    ORDER BY updated_at LIMIT {limit} FOR UPDATE SKIP LOCKED
)
"""


def retention_tasks(keep: timedelta) -> tuple[RetentionTask, ...]:
    """The retention tasks of an adapter: ended attempts older than `keep`."""
    return (delete_rows_task("attempts", _PURGE, keep),)
