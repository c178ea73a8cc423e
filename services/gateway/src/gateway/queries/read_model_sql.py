"""The SQL queries against the read model: the log sink's views."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chassis.postgres.pool import TRANSIENT
from contracts.generation import Provider
from contracts.messages.jobs import JobStatus
from gateway.queries.database import READ_LIMIT_S, VIEW_MISSING, Database
from gateway.queries.errors import ReadModelUnavailable
from gateway.queries.model import AttemptOfJob, Job, LogLine
from gateway.queries.model_from_rows import attempt_of_job, log_line_of
from gateway.queries.single_flight import Grouped
from read_model.merge import State, with_reports
from read_model.tables import ARTIFACTS, ATTEMPTS, JOBS, TRACKS, Row, Table

UNAVAILABLE: Final[tuple[type[Exception], ...]] = (*TRANSIENT, *VIEW_MISSING)

_JOB_COLUMNS = """
job_id, track_id, tenant, status, requested_model, planned_model, plan, provider, attempt_id, version, plan_version,
placed_version, error, cost_usd, fingerprint, metadata, asked_at AS requested_at, first_at, started_at, finished_at,
deadline_at, trace_id, updated_at, cancel_asked_at, cancel_effect
"""
# Where a job or a track is found by its id, the tenant is compared in the form (a = b) IS TRUE, which is looked for in
# no index. The indexes of the lists have the tenant, the time and the id: a plan that was made before there were rows
# may look for the tenant and the id in one of them, and reads all entries of the tenant.
_ONE_JOB = f"""
SELECT {_JOB_COLUMNS} FROM log_sink.v_jobs
WHERE job_id = $1 AND (tenant = $2) IS TRUE AND track_id IS NOT NULL
"""  # noqa: S608 - only constants of this module; values from clients are parameters
_THESE_JOBS = _ONE_JOB.replace("job_id = $1", "job_id = ANY($1::text[])")
HAS_JOB: Final = """
EXISTS (
    SELECT FROM log_sink.v_jobs WHERE job_id = {job_id} AND (tenant = {tenant}) IS TRUE AND track_id IS NOT NULL
)
"""
"""A condition for other statements: whether there is the job with the id and the tenant in these columns."""
_EXISTING = "SELECT job_id, tenant FROM log_sink.v_jobs WHERE job_id = ANY($1::text[]) AND track_id IS NOT NULL"
_JOBS = f"""
SELECT {_JOB_COLUMNS} FROM log_sink.v_jobs j
WHERE tenant = $1 AND track_id IS NOT NULL
  AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR provider = $3) AND ($4::text IS NULL OR model = $4)
  AND ($5::timestamptz IS NULL OR (requested_at, job_id) < ($5, $6))
ORDER BY j.requested_at DESC, job_id DESC LIMIT $7
"""  # noqa: S608
_ATTEMPTS = "SELECT * FROM log_sink.v_attempts WHERE job_id = ANY($1::text[]) ORDER BY job_id, n"
# A job's row may arrive after its attempts', from another topic; until then the tenant of the attempt is not known.
_ATTEMPTS_OF_JOBS = """
SELECT a.*, j.status AS job_status, j.deadline_at, j.input,
    EXISTS (SELECT FROM log_sink.v_artifacts f WHERE f.attempt_id = a.attempt_id AND f.late) AS has_late_files
FROM log_sink.v_attempts a JOIN log_sink.v_jobs j USING (job_id)
WHERE (j.tenant = $1) IS TRUE
"""
_ONE_ATTEMPT = f"{_ATTEMPTS_OF_JOBS} AND a.attempt_id = $2"
_OF_SAME_RUN = (
    "SELECT attempt_id FROM log_sink.v_attempts WHERE provider = $1 AND provider_ref = $2 AND attempt_id <> $3"
)
_RUNS = """
SELECT attempt_id, provider_ref FROM log_sink.v_attempts
WHERE provider = $1 AND (provider_ref = $2 OR attempt_id = $3)
"""
_SOME_ATTEMPTS = f"""
{_ATTEMPTS_OF_JOBS} AND (a.ambiguous OR NOT $2) AND ($3::text IS NULL OR a.provider = $3)
  AND ($4::timestamptz IS NULL OR (a.first_at, a.attempt_id) < ($4, $5))
ORDER BY a.first_at DESC, a.attempt_id DESC LIMIT $6
"""
_ARTIFACTS = "SELECT * FROM log_sink.v_artifacts WHERE job_id = ANY($1::text[]) ORDER BY attempt_id, name"
_LOG = "SELECT * FROM log_sink.v_job_log WHERE job_id = $1 ORDER BY time, seq"
_TRACK_COLUMNS = """
track_id, job_id, tenant, modality, status, version, provider, model, attempt_id, artifact_name, content_type,
duration_s, asked_at AS requested_at, first_at, finished_at, updated_at, expired_at
"""
_ONE_TRACK = f"""
SELECT {_TRACK_COLUMNS} FROM log_sink.v_tracks
WHERE track_id = $1 AND (tenant = $2) IS TRUE
"""  # noqa: S608 - only constants of this module; values from clients are parameters
_THESE_TRACKS = _ONE_TRACK.replace("track_id = $1", "track_id = ANY($1::text[])")
_TRACKS = f"""
SELECT {_TRACK_COLUMNS} FROM log_sink.v_tracks
WHERE tenant = $1 AND coalesce(modality, 'music') = 'music'
  AND ($2::timestamptz IS NULL OR (created_at, track_id) < ($2, $3))
ORDER BY created_at DESC, track_id DESC LIMIT $4
"""  # noqa: S608


Cursor = tuple[datetime, str]
"""The time and the id of the last row of a page; the next page starts below it."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """The conditions of a list of jobs; None: no condition."""

    status: JobStatus | None = None
    provider: Provider | None = None
    model: str | None = None

    def matches(self, job: Job) -> bool:
        """Whether the job meets all conditions."""
        conditions = (self.status, self.provider, self.model)
        values = (job.status, job.provider, job.model)
        return all(wanted is None or wanted == value for wanted, value in zip(conditions, values, strict=True))


class ReadModel:
    """Queries of the read model. Each raises ReadModelUnavailable if PostgreSQL does not answer in time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._existing = Grouped(self._find_existing, common=UNAVAILABLE)

    async def exists(self, job_id: str, tenant: str, limit_s: float = READ_LIMIT_S) -> bool:
        """Whether there is such a job; concurrent calls share a statement."""
        try:
            with self._database.budgeted(limit_s) as within_s:
                async with asyncio.timeout(within_s):
                    return await self._existing.get((job_id, tenant))
        except UNAVAILABLE as error:
            raise ReadModelUnavailable("this job") from error

    async def job(self, job_id: str, tenant: str) -> State:
        """The rows of one job, of its attempts and of its files; empty if there is no such job."""
        jobs = await self._with_parts("this job", await self._fetch("this job", _ONE_JOB, job_id, tenant))
        return jobs.get(job_id, {})

    async def jobs(self, tenant: str, wanted: JobFilter, below: Cursor | None, limit: int) -> dict[str, State]:
        """The rows of up to `limit` jobs after the cursor `below`, by job id, newest first."""
        at, last_id = below or (None, None)
        subject = "the list of jobs"
        conditions = (wanted.status, wanted.provider, wanted.model)
        return await self._with_parts(
            subject, await self._fetch(subject, _JOBS, tenant, *conditions, at, last_id, limit)
        )

    async def with_tracks(self, job_ids: Iterable[str], tenant: str) -> dict[str, State]:
        """The rows of these jobs, of their attempts, files and tracks, by job id; without jobs that do not exist."""
        subject = "the list"
        rows = await self._fetch(subject, _THESE_JOBS, list(job_ids), tenant)
        jobs = await self._with_parts(subject, rows)
        tracks = [row["track_id"] for row in rows]
        for row in await self._fetch(subject, _THESE_TRACKS, tracks, tenant) if tracks else ():
            jobs[row["job_id"]] = with_reports(jobs[row["job_id"]], [(TRACKS, row)])
        return jobs

    async def log(self, job_id: str) -> list[LogLine]:
        """The stored lines of a job's log, by time."""
        return [log_line_of(row) for row in await self._fetch("the job's log", _LOG, job_id)]

    async def track(self, track_id: str, tenant: str) -> State:
        """The row of one track; empty if there is no such track."""
        rows = await self._fetch("this track", _ONE_TRACK, track_id, tenant)
        return with_reports({}, [(TRACKS, row) for row in rows])

    async def tracks(self, tenant: str, below: Cursor | None, limit: int) -> dict[str, State]:
        """The rows of up to `limit` music tracks after the cursor `below`, by track id, newest first."""
        at, last_id = below or (None, None)
        rows = await self._fetch("the list of tracks", _TRACKS, tenant, at, last_id, limit)
        return {row["track_id"]: with_reports({}, [(TRACKS, row)]) for row in rows}

    async def attempt(self, attempt_id: str, tenant: str) -> AttemptOfJob | None:
        """One attempt; None if there is no such attempt."""
        rows = await self._fetch("this attempt", _ONE_ATTEMPT, tenant, attempt_id)
        return attempt_of_job(rows[0]) if rows else None

    async def attempts(
        self, tenant: str, provider: Provider | None, below: Cursor | None, limit: int, *, ambiguous: bool
    ) -> list[AttemptOfJob]:
        """Up to `limit` attempts after the cursor `below`, newest first; with `ambiguous`, only ambiguous ones."""
        at, last_id = below or (None, None)
        subject = "the list of attempts"
        rows = await self._fetch(subject, _SOME_ATTEMPTS, tenant, ambiguous, provider, at, last_id, limit)
        return [attempt_of_job(row) for row in rows]

    async def other_of_run(self, provider: Provider, provider_ref: str, attempt_id: str) -> str | None:
        """The id of another attempt, of any tenant, that has this run; None if there is none."""
        rows = await self._fetch("the run", _OF_SAME_RUN, provider, provider_ref, attempt_id)
        return rows[0]["attempt_id"] if rows else None

    async def runs(self, provider: Provider, provider_ref: str, attempt_id: str) -> dict[str, str | None]:
        """The known runs, by attempt id, of this attempt and of all attempts that have this run."""
        rows = await self._fetch("the run", _RUNS, provider, provider_ref, attempt_id)
        return {row["attempt_id"]: row["provider_ref"] for row in rows}

    async def _find_existing(self, jobs: Sequence[tuple[str, str]]) -> list[bool]:
        async with self._database.lease() as lease:
            rows = await lease.connection.fetch(_EXISTING, [job_id for job_id, _ in jobs])
        found = {(row["job_id"], row["tenant"]) for row in rows}
        return [job in found for job in jobs]

    async def _with_parts(self, subject: str, jobs: Sequence[Row]) -> dict[str, State]:
        parts: dict[str, list[tuple[Table, Row]]] = {row["job_id"]: [(JOBS, row)] for row in jobs}
        for table, sql in ((ATTEMPTS, _ATTEMPTS), (ARTIFACTS, _ARTIFACTS)) if jobs else ():
            for row in await self._fetch(subject, sql, list(parts)):
                parts[row["job_id"]].append((table, row))
        return {job_id: with_reports({}, rows) for job_id, rows in parts.items()}

    async def _fetch(self, subject: str, sql: str, *arguments: object) -> list[Row]:
        try:
            async with self._database.lease() as lease:
                return [dict(row) for row in await lease.connection.fetch(sql, *arguments)]
        except UNAVAILABLE as error:
            raise ReadModelUnavailable(subject) from error
