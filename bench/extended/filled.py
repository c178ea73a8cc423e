"""Fills the tables of the log sink with jobs that have ended, by SQL.

A job has four attempts, the last of which succeeds. The ids ascend with the time, so that filling is fast; a lookup
reads as many pages as with random ids. LOGGED_JOBS jobs have their whole log, the others the end of each attempt only:
the log of a real system has about six times as many rows, which adds at most one level to its indexes.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Final

import asyncpg
from bench.measures import each

import log_sink
from chassis.postgres.pool import migrate, open_pool
from log_sink.retention.partitions import ensure_partitions

ATTEMPTS_OF_JOB: Final = 4
LOGGED_JOBS: Final = 500
"""How many jobs have a whole log."""
DAYS: Final = 88
_CHUNKS: Final = 40
_AT_ONCE: Final = 2
_PARTITIONS: Final = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass"
_IDS: Final = """
SELECT i, '00000000-0000-5000-8000-' || lpad(to_hex(i), 12, '0') AS job_id,
    now() - make_interval(secs => 86400.0 * $3 * ($4 - i) / $4) AS at
FROM generate_series($1::bigint, $2::bigint) AS i
"""
_JOBS: Final = f"""
INSERT INTO jobs (job_id, track_id, tenant, modality, requested_at, first_at, started_at, finished_at, updated_at,
    plan_version, planned_model, deadline_at, placed_version, provider, attempt_id, version, status, input, cost_usd)
SELECT job_id, job_id, 'default', 'music', at, at, at, at + '9 s', at + '9 s', 1, 'music/stable-audio-2.5',
    at + '30 min', 8, 'replicate', job_id || '.4', 9, CASE WHEN i % 1000 = 7 THEN 'failed' ELSE 'succeeded' END,
    '{{"prompt": "a warm pad", "modality": "music", "duration_s": 2}}', 0.01
FROM ({_IDS}) AS made
"""  # noqa: S608 - consists of constants of this module
_ATTEMPTS: Final = f"""
INSERT INTO attempts (attempt_id, job_id, track_id, n, provider, model, endpoint, provider_ref, version, state,
    error_kind, error_code, message, http_status, accepted, cost_usd, first_at, submitting_at, submitted_at,
    finished_at, updated_at)
SELECT job_id || '.' || n, job_id, job_id, n, CASE n % 2 WHEN 1 THEN 'fal' ELSE 'replicate' END,
    'music/stable-audio-2.5', 'fal-ai/stable-audio-25/text-to-audio', i || 'r' || n, 4,
    CASE n WHEN 4 THEN 'succeeded' ELSE 'failed' END,
    CASE WHEN n < 4 THEN 'rejected' END, CASE WHEN n < 4 THEN 'refused' END,
    CASE WHEN n < 4 THEN 'The provider refused it.' END, CASE WHEN n < 4 THEN 403 END, n = 4, 0.01,
    at + n * interval '2 s', at + n * interval '2 s', at + n * interval '2 s', at + n * interval '2 s' + '1 s',
    at + n * interval '2 s' + '1 s'
FROM ({_IDS}) AS made CROSS JOIN generate_series(1, 4) AS n
"""  # noqa: S608 - consists of constants of this module
_ARTIFACTS: Final = f"""
INSERT INTO artifacts (attempt_id, name, job_id, content_type, size_bytes, sha256, duration_s, made_at)
SELECT job_id || '.4', 'audio.wav', job_id, 'audio/wav', 352844, md5(job_id) || md5(job_id), 2, at + '9 s'
FROM ({_IDS}) AS made
"""  # noqa: S608 - consists of constants of this module
_EVENTS: Final = f"""
INSERT INTO events (event_id, type, occurred_at, topic, kafka_partition, kafka_offset, job_id, track_id,
    attempt_id, n, provider, error_kind, http_status, message, data)
SELECT job_id || '.' || place, 'segue.' || type || '.v1', at + place * interval '100 ms', 'segue.attempts', i % 6, i,
    job_id, job_id, job_id || '.' || n, n, CASE n % 2 WHEN 1 THEN 'fal' WHEN 0 THEN 'replicate' END,
    CASE type WHEN 'attempt.failed' THEN 'rejected' END, CASE type WHEN 'attempt.failed' THEN 403 END,
    'What is said of it in one line.',
    jsonb_build_object('job_id', job_id, 'version', version, 'from_attempt_id', job_id || '.' || n - 1)
FROM ({_IDS}) AS made CROSS JOIN (
    SELECT 10 * n + line AS place, n,
        (ARRAY['attempt.submitting', 'attempt.submitted', 'attempt.progressed',
               CASE n WHEN 4 THEN 'attempt.succeeded' ELSE 'attempt.failed' END])[line] AS type, line AS version
    FROM generate_series(1, 4) AS n CROSS JOIN generate_series(1, 4) AS line
    UNION ALL SELECT 10 * n, n, 'job.rerouted', n + 1 FROM generate_series(2, 4) AS n
    UNION ALL VALUES (1, NULL, 'job.requested', NULL), (2, NULL, 'job.accepted', 1), (3, 1, 'job.started', 2),
        (49, 4, 'job.succeeded', 6)
) AS lines
WHERE i % $5 = 0 OR type = 'attempt.succeeded' OR type = 'attempt.failed'
"""  # noqa: S608 - consists of constants of this module
_MISPLACED: Final = """
INSERT INTO events_default (event_id, type, occurred_at, topic, kafka_partition, kafka_offset, job_id, message,
    data, stored_at)
SELECT 'misplaced.' || i, 'segue.job.requested.v1', '2020-01-01', 'segue.requests', 0, i, 'none', '', '{}', '2020-01-01'
FROM generate_series(1, $1) AS i
"""


def job_id(n: int) -> str:
    """The id of the n-th job, from 1, oldest first."""
    return f"00000000-0000-5000-8000-{n:012x}"


async def fill(url: str, attempts: int, misplaced: int) -> list[str]:
    """Create the tables of the log sink, with so many attempts of the last DAYS days.

    `misplaced` old events are in the default partition. Returns the ids of the jobs with a whole log.
    """
    await migrate(url, "log_sink", log_sink)
    jobs = attempts // ATTEMPTS_OF_JOB
    step = jobs // LOGGED_JOBS
    async with open_pool(url, "log_sink") as pool:
        now = await pool.fetchval("SELECT now()")
        for days in (DAYS, DAYS // 2, 0):
            await ensure_partitions(pool, now - timedelta(days=days))
        partitions = [row[0] for row in await pool.fetch(_PARTITIONS)]
    tables = ["jobs", "attempts", "artifacts", *partitions]
    # Without a write-ahead log the tables are read as with one, and filled in half the time.
    await asyncio.gather(*(_run(url, f"ALTER TABLE {table} SET UNLOGGED") for table in tables))
    await each(partial(_fill_chunk, url, jobs, step), _CHUNKS, _AT_ONCE)
    await _run(url, _MISPLACED, misplaced)
    await each(lambda n: _run(url, f"VACUUM (ANALYZE) {tables[n]}"), len(tables), _AT_ONCE)
    await _run(url, "ANALYZE events")
    return [job_id(n) for n in range(step, jobs + 1, step)]


async def _fill_chunk(url: str, jobs: int, step: int, n: int) -> None:
    span = jobs * n // _CHUNKS + 1, jobs * (n + 1) // _CHUNKS
    for statement in (_JOBS, _ATTEMPTS, _ARTIFACTS):
        await _run(url, statement, *span, DAYS, jobs)
    await _run(url, _EVENTS, *span, DAYS, jobs, step)


async def _run(url: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(url, server_settings={"search_path": "log_sink"})
    try:
        # A statement may take as long as it does.
        await connection.execute(statement, *arguments) if arguments else await connection.execute(statement)
    finally:
        await connection.close()
