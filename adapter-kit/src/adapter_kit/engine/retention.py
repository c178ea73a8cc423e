"""Retention of the ledger: attempts that ended long ago go, and cannot come back to be paid for again.

Whether a POST may be sent is decided by an attempt's row, so the row must outlive every chance that its command is
delivered again. It does, twice over. Rows are kept for longer than Kafka holds commands. And a row goes only when its
own deadline lies as far back: whatever brings its command back then, a topic kept for longer or a record put there by
hand, makes a row whose deadline is over, and `step` ends that as `expired` without a POST. The deadline is the
command's own, so this holds whatever deadline was asked for.

What the row also answered for is over by then. Provider's listings are searched for a lost submit only from half an
hour before it, so the id of an older run is never mistaken for that of a new one; a webhook or an operator's word about
an attempt without a row changes nothing. An attempt that is still followed up has a `next_action_at`, and stays.

What Kafka would not take stays parked in the outbox: it was never told, and deleting it would hide that.
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
    ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
"""


def retention_tasks(keep: timedelta) -> tuple[RetentionTask, ...]:
    """What an adapter deletes of its own."""
    return (delete_rows_task("attempts", _PURGE, keep),)
