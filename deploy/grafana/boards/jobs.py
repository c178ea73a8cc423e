"""Jobs: a search over jobs, and all that is known of one of them. From PostgreSQL."""

from __future__ import annotations

from typing import Final

from boards.dashboard import Dashboard, Row, choice, logs, of_rows, textbox, trace
from boards.panels import GREY, STATUS, Column, graph, table
from boards.queries import Sql

_STATUSES: Final = ("queued", "running", "succeeded", "failed", "cancelled")
_MATCHES: Final = """tenant LIKE ${tenant:sqlstring} AND status IN (${status:sqlstring})
      AND (${search:sqlstring} IN ('', job_id, track_id)
           OR input ->> 'prompt' ILIKE '%' || ${search:sqlstring} || '%')"""
_COST: Final = Column(name="cost", unit="currencyUSD", width=80, decimals=2)
_TRACE: Final = Column(name="trace_id", shown="trace", width=95, link=trace("trace_id"))

_JOBS: Final = f"""
    SELECT date_trunc('second', j.requested_at) AS time, j.status, coalesce(j.provider, '') AS provider, j.tenant,
        coalesce(j.model, '') AS model, j.input ->> 'prompt' AS prompt,
        extract(epoch FROM finished_at - requested_at) AS took,
        CASE WHEN paid.late THEN paid.usd ELSE j.cost_usd END AS cost,
        coalesce(j.error ->> 'kind', '') AS error, j.job_id, j.track_id, j.trace_id
    FROM (
        SELECT * FROM log_sink.v_jobs WHERE $__timeFilter(requested_at) AND {_MATCHES}
        ORDER BY requested_at DESC LIMIT 200
    ) j CROSS JOIN LATERAL (
        -- What became known after the job's end is in its attempts only. A sum with an unknown part is not known.
        SELECT bool_or(late) AS late, CASE WHEN count(cost_usd) = count(*) THEN sum(cost_usd) END AS usd
        FROM log_sink.v_attempts WHERE job_id = j.job_id
    ) paid
    ORDER BY j.requested_at DESC
"""
_BY_STATUS: Final = f"""
    SELECT $__timeGroupAlias(requested_at, $__interval), status AS metric, count(*) AS jobs
    FROM log_sink.v_jobs
    WHERE $__timeFilter(requested_at) AND {_MATCHES}
    GROUP BY 1, 2 ORDER BY 1
"""
_ATTEMPTS: Final = """
    SELECT n, provider, endpoint, state, coalesce(error_kind, '') AS kind, coalesce(http_status::text, '') AS http,
        coalesce(message, '') AS message, date_trunc('second', submitting_at) AS submitted,
        extract(epoch FROM finished_at - submitting_at) AS took, cost_usd AS cost, late, provider_ref, attempt_id
    FROM log_sink.v_attempts
    WHERE job_id = ${job:sqlstring}
    ORDER BY n
"""
_LOG: Final = """
    SELECT time, event, coalesce(provider, '') AS provider, attempt, message, coalesce(error_code, '') AS code,
        coalesce(http_status::text, '') AS http, trace_id
    FROM log_sink.v_job_log
    WHERE job_id = ${job:sqlstring}
    ORDER BY time, seq
"""
_FILES: Final = """
    SELECT name, content_type AS type, size_bytes AS size, duration_s AS length, late,
        date_trunc('second', made_at) AS made, date_trunc('second', expired_at) AS expired, attempt_id
    FROM log_sink.v_artifacts
    WHERE job_id = ${job:sqlstring}
    ORDER BY attempt_id, name
"""
_CHOSEN: Final = "/d/segue-jobs?${__url_time_range}&${search:queryparam}&${tenant:queryparam}&${status:queryparam}"

_FOUND: Final = Row(
    "Search",
    (
        table(
            "Jobs",
            "The newest 200 that match. A click on a job's id shows it below; one on its trace shows the trace. The "
            "cost includes what became known after the job's end; an empty one is not known.",
            Sql(_JOBS),
            columns=(
                Column(name="time", shown="requested", width=165),
                Column(name="status", width=90, colours={name: STATUS[name] for name in _STATUSES}),
                Column(name="provider", width=85),
                Column(name="tenant", width=80),
                Column(name="model", width=150),
                Column(name="prompt"),
                Column(name="took", unit="s", width=75, decimals=1),
                _COST,
                Column(name="error", width=125),
                Column(
                    name="job_id",
                    shown="job",
                    width=95,
                    link=("Show this job", f"{_CHOSEN}&var-job=${{__value.raw}}"),
                ),
                Column(name="track_id", shown="track", width=95, link=logs("job_id")),
                _TRACE,
            ),
            width=24,
            height=14,
        ),
        graph(
            "Jobs requested, by status",
            "The jobs that match, by the time of their request and by their status now.",
            Sql(_BY_STATUS),
            stacked=True,
            bars=True,
            decimals=0,
            colours={name: STATUS[name] for name in _STATUSES},
            none="no job matches",
            calcs=("sum",),
            width=24,
            height=7,
        ),
    ),
)
_ONE: Final = Row(
    "The job in “Job”",
    (
        table(
            "Attempts",
            "Of the job whose id is in the variable: a click on an id above puts it there. An empty cost is not known.",
            Sql(_ATTEMPTS),
            columns=(
                Column(name="n", width=45),
                Column(name="provider", width=90),
                Column(name="endpoint", width=215),
                Column(name="state", width=95, colours=STATUS),
                Column(name="kind", width=130),
                Column(name="http", width=60),
                Column(name="message"),
                Column(name="submitted", width=165),
                Column(name="took", unit="s", width=75, decimals=1),
                _COST,
                Column(name="late", width=60),
                Column(name="provider_ref", shown="run", width=100),
                Column(name="attempt_id", shown="attempt", width=90),
            ),
            width=24,
            height=6,
        ),
        table(
            "Log",
            "Everything that happened to that job and its attempts, in order.",
            Sql(_LOG),
            columns=(
                Column(name="time", width=180),
                Column(name="event", width=170),
                Column(name="provider", width=90),
                Column(name="attempt", width=75),
                Column(name="message"),
                Column(name="code", width=150),
                Column(name="http", width=60),
                _TRACE,
            ),
            width=24,
            height=11,
        ),
        table(
            "Files",
            "What the job's attempts made. A late file is kept, and is not the job's result.",
            Sql(_FILES),
            columns=(
                Column(name="name", width=200),
                Column(name="type", width=130),
                Column(name="size", unit="bytes", width=95),
                Column(name="length", unit="s", width=85, decimals=1),
                Column(name="late", width=60, colours={"true": GREY, "false": "text"}),
                Column(name="made", width=165),
                Column(name="expired", width=165),
                Column(name="attempt_id", shown="attempt"),
            ),
            width=24,
            height=5,
        ),
    ),
)

JOBS: Final = Dashboard(
    uid="segue-jobs",
    title="Segue: jobs",
    says="A search over jobs, and all that is known of one of them.",
    variables=(
        textbox("search", "Search", "A job's id, a track's id, or words of the prompt."),
        of_rows("tenant", "Tenant", "SELECT DISTINCT tenant FROM log_sink.v_jobs WHERE $__timeFilter(requested_at)"),
        choice("status", "Status", _STATUSES),
        textbox("job", "Job", "The id of the job that is shown in full."),
    ),
    rows=(_FOUND, _ONE),
    since="now-24h",
)
