"""Jobs in PostgreSQL: read and written in batches, under row locks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import asyncpg
from pydantic import TypeAdapter

from chassis.kafka.outbox import Transaction
from chassis.postgres.opening import Opening
from chassis.postgres.polled_gauges import GaugeQuery
from chassis.postgres.pool import Connection
from contracts.ids import JobId
from contracts.messages.jobs import AttemptOutcome
from orchestrator.decisions.job import Job
from orchestrator.metrics import JOBS, JOBS_OVERDUE

_BODY: Final = TypeAdapter(Job)

# Two consumers may receive the first messages of a job at the same time, before it has a row: the id is locked. The
# subquery without a table comes first, so that all ids are locked before the first row is read.
_LOCK = """
SELECT now() AS now, job_id, body, traceparent, next_action_at FROM (
    SELECT array_agg(id) AS ids, count(pg_advisory_xact_lock(hashtextextended(id, 0))) FROM unnest($1::text[]) AS id
) AS locked LEFT JOIN LATERAL (
    SELECT job_id, body::text, traceparent, next_action_at FROM jobs WHERE job_id = ANY(locked.ids) FOR UPDATE
) AS known ON true
"""
_LOAD = "SELECT job_id, body::text, traceparent, next_action_at FROM jobs WHERE job_id = ANY($1) FOR UPDATE"
_DUE = """
SELECT job_id, body::text, traceparent, next_action_at FROM jobs
WHERE next_action_at <= now() ORDER BY next_action_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""
# The rows of attempts have been ordered: an attempt is closed before the next one of its job is live.
_SAVE = """
WITH saved AS (
    INSERT INTO jobs (job_id, state, version, next_action_at, traceparent, deadline_at, body)
    SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[], $5::text[], $6::timestamptz[],
        $7::text[]::jsonb[])
    ON CONFLICT (job_id) DO UPDATE SET state = excluded.state, version = excluded.version,
        next_action_at = excluded.next_action_at, deadline_at = excluded.deadline_at, body = excluded.body,
        updated_at = now()
)
INSERT INTO attempts AS known (attempt_id, job_id, provider, live)
SELECT * FROM unnest($8::text[], $9::text[], $10::text[], $11::bool[])
ON CONFLICT (attempt_id) DO UPDATE SET live = false WHERE known.live AND NOT excluded.live
"""
_RESCHEDULE = "UPDATE jobs SET next_action_at = now() + make_interval(secs => $2) WHERE job_id = ANY($1)"
_WAKE_WAITING = """
UPDATE jobs SET next_action_at = now() WHERE job_id IN (
    SELECT job_id FROM jobs
    WHERE next_action_at > now() AND state = 'queued'
    AND NOT EXISTS (SELECT FROM attempts WHERE attempts.job_id = jobs.job_id AND live)
    FOR UPDATE OF jobs SKIP LOCKED
)
"""
# A job has a next action until it ends; so the index of due jobs finds those that have not.
_UNENDED = """
SELECT jsonb_build_object('queued', count(*) FILTER (WHERE state = 'queued'),
    'running', count(*) FILTER (WHERE state = 'running'),
    'overdue', count(*) FILTER (WHERE deadline_at < now() - interval '30 seconds')) FROM jobs
WHERE next_action_at IS NOT NULL
"""
_SECONDS_TO_NEXT = "SELECT extract(epoch FROM min(next_action_at) - now())::float8 FROM jobs"


@dataclass(frozen=True, slots=True)
class Stored:
    """A job with the trace context (W3C `traceparent`) of its request."""

    job: Job
    traceparent: str | None


_NOTHING: Final[Mapping[JobId, Stored]] = MappingProxyType({})


def opening(job_ids: Iterable[JobId]) -> Opening:
    """Begin a transaction with the locks of these ids, and with those of the jobs that exist, until it ends."""
    return Opening(_LOCK, (sorted(set(job_ids)),))  # All transactions lock in this order, so that they cannot deadlock.


async def load(transaction: Transaction, job_ids: Iterable[JobId]) -> dict[JobId, Stored]:
    """The jobs with these ids, locked until the transaction ends; ids without a job are locked too.

    If the transaction has an opening, it is that of these ids.
    """
    wanted = set(job_ids)
    connection, locking = transaction.connection, opening(wanted)
    rows = transaction.opened or await connection.fetch(locking.statement, *locking.arguments)
    known = [row for row in rows if row["job_id"] is not None]
    # A statement that waits for a lock does not see the job that its holder created; the next one does.
    if unseen := sorted(wanted.difference(row["job_id"] for row in known)):
        known += await connection.fetch(_LOAD, unseen)
    return {JobId(row["job_id"]): _stored(row) for row in known}


async def due(transaction: Transaction, limit: int) -> tuple[dict[JobId, Stored], dict[JobId, ValueError]]:
    """Up to `limit` jobs that are due, locked, and the errors of those among them that cannot be read.

    Jobs that another replica has locked are skipped.
    """
    jobs: dict[JobId, Stored] = {}
    unreadable: dict[JobId, ValueError] = {}
    for row in await transaction.connection.fetch(_DUE, limit):
        try:
            jobs[JobId(row["job_id"])] = _stored(row)
        except ValueError as error:  # An unreadable row must not block the others.
            unreadable[JobId(row["job_id"])] = error
    return jobs, unreadable


async def seconds_to_next(transaction: Transaction) -> float | None:
    """Seconds until the next job is due, negative if one is overdue; None if no job has a next action."""
    seconds: float | None = await transaction.connection.fetchval(_SECONDS_TO_NEXT)
    return seconds


async def reschedule(transaction: Transaction, job_ids: Sequence[JobId], seconds: float) -> None:
    """Make these jobs due in `seconds` from now."""
    if job_ids:
        await transaction.connection.execute(_RESCHEDULE, job_ids, seconds)


async def wake_waiting(connection: Connection) -> None:
    """Make all jobs due that wait for a provider: those that have not ended and have no live attempt."""
    await connection.execute(_WAKE_WAITING)


async def save(
    transaction: Transaction, changed: Mapping[JobId, Stored], before: Mapping[JobId, Stored] = _NOTHING
) -> None:
    """Write jobs, and of their attempts what has changed since `before`.

    Raises asyncpg.UniqueViolationError if a job would have two live attempts.
    """
    if not changed:
        return
    stored = list(changed.values())
    attempts = [(attempt, s.job) for s in stored for attempt in _changed_attempts(s, before.get(s.job.job_id))]
    attempts.sort(key=lambda each: each[0].outcome == "live")
    await transaction.connection.execute(
        _SAVE,
        [s.job.job_id for s in stored],
        [s.job.state for s in stored],
        [s.job.version for s in stored],
        [s.job.next_action_at for s in stored],
        [s.traceparent for s in stored],
        [s.job.deadline_at for s in stored],
        [_BODY.dump_json(s.job).decode() for s in stored],
        [attempt.attempt_id for attempt, _ in attempts],
        [job.job_id for _, job in attempts],
        [attempt.provider for attempt, _ in attempts],
        [attempt.outcome == "live" for attempt, _ in attempts],
    )


def _changed_attempts(stored: Stored, before: Stored | None) -> Iterator[AttemptOutcome]:
    known = {attempt.attempt_id: attempt.outcome == "live" for attempt in before.job.attempts} if before else {}
    for attempt in stored.job.attempts:
        if known.get(attempt.attempt_id) != (attempt.outcome == "live"):
            yield attempt


def _show_jobs(counts: Mapping[str, int]) -> None:
    JOBS_OVERDUE.set(counts["overdue"])
    for state in ("queued", "running"):
        JOBS.labels(state).set(counts[state])


JOB_GAUGES: Final = GaugeQuery(_UNENDED, _show_jobs)
"""The number of jobs that have not ended, by state, and how many of them are overdue."""


def _stored(row: asyncpg.Record) -> Stored:
    job = replace(_BODY.validate_json(row["body"]), next_action_at=row["next_action_at"])
    return Stored(job, row["traceparent"])
