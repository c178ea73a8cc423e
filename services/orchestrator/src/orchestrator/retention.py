"""Purging jobs: those that ended long ago go, and a request that comes back does not begin them anew.

A job's row answers for its request: as long as it is there, a repeat changes nothing. Rows are kept for longer than
Kafka holds requests, and a row goes only when its deadline lies as far back. So a request with a younger deadline
cannot be one whose row has gone; it is decided as ever. One with an older deadline and without a row may be a replay,
from a topic that somebody keeps for longer, of a story that was told to its end. Another story under the same id would
contradict it, so it is left alone. Nobody waits for it: its deadline has been over for longer than rows are kept.

Were it decided all the same, it would be `failed(expired)` with nothing sent, as its deadline is over; and the read
model would keep the end it has, whose version is higher.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from chassis.postgres.retention import RetentionTask, delete_rows_task
from contracts.messages.requests import JobRequested

_PURGE: Final = """
WITH gone AS (
    SELECT job_id FROM jobs
    WHERE state IN ('succeeded', 'failed', 'cancelled') AND next_action_at IS NULL AND updated_at < now() - $1::interval
      AND deadline_at < now() - $1::interval
    ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED
), ordered AS (
    DELETE FROM attempts USING gone WHERE attempts.job_id = gone.job_id
)
DELETE FROM jobs USING gone WHERE jobs.job_id = gone.job_id
"""


def job_tasks(keep: timedelta) -> tuple[RetentionTask, ...]:
    """What the orchestrator deletes of its own."""
    return (delete_rows_task("jobs", _PURGE, keep),)


def may_be_purged(request: JobRequested, now: datetime, keep: timedelta) -> bool:
    """Whether the request may have had a row that has gone."""
    return request.deadline_at <= now - keep
