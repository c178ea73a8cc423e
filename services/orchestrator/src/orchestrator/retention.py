"""Retention of jobs: rows of jobs that ended long ago are deleted, and a replayed request does not start one again.

As long as the row of a job exists, a repeat of its request changes nothing. Rows are kept longer than Kafka keeps
requests, and a row is deleted only if its deadline is as old as that. Therefore a request with a newer deadline is not
one whose row was deleted, and is processed as usual. A request with an older deadline and without a row may be a replay
of a job that has ended, from a topic with a longer retention. It is ignored, since a second decision under the same id
would contradict the first. No client waits for it: its deadline passed longer ago than rows are kept.

If it were processed nonetheless, the job would become `failed(expired)` with nothing sent, since its deadline has
passed, and the read model would keep the first end, which has a higher version.
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
    ORDER BY updated_at LIMIT {limit} FOR UPDATE SKIP LOCKED
), ordered AS (
    DELETE FROM attempts USING gone WHERE attempts.job_id = gone.job_id
)
DELETE FROM jobs USING gone WHERE jobs.job_id = gone.job_id
"""


def job_tasks(keep: timedelta) -> tuple[RetentionTask, ...]:
    """The retention tasks of the orchestrator: jobs that ended more than `keep` ago."""
    return (delete_rows_task("jobs", _PURGE, keep),)


def may_be_purged(request: JobRequested, now: datetime, keep: timedelta) -> bool:
    """Whether a row of the request may have existed and been deleted."""
    return request.deadline_at <= now - keep
