"""Money: what was paid to whom and for whom, and what was paid for in vain. From PostgreSQL, and the budget."""

from __future__ import annotations

from typing import Final

from boards.dashboard import Dashboard, Row, trace
from boards.panels import GREY, NONE_IS_CALM, RED, STATUS, Column, Panel, graph, stat, table
from boards.queries import Prom, Sql

_USD: Final = "currencyUSD"
_OF_JOB: Final = "LEFT JOIN log_sink.v_jobs j ON j.job_id = a.job_id"
_PAID: Final = "a.cost_usd > 0 AND $__timeFilter(a.finished_at)"
_USED: Final = "coalesce(j.status = 'succeeded' AND j.attempt_id = a.attempt_id, false)"
_AGAIN: Final = "EXISTS (SELECT FROM log_sink.v_attempts b WHERE b.job_id = a.job_id AND b.n > a.n AND b.accepted)"
# A late event replaces the reason for which its job went on.
_BY_POLICY: Final = f"""(a.error_kind = 'ambiguous_submission'
             OR a.accepted AND (a.late OR a.error_kind IN ('output_lost', 'output_unusable')))
        AND coalesce(a.cost_usd, 1) > 0 AND {_AGAIN}"""
_MOVED: Final = """CROSS JOIN LATERAL (
        SELECT coalesce(min(l.error_kind), a.error_kind) AS kind FROM log_sink.v_job_log l
        WHERE l.job_id = a.job_id AND l.event = 'job.rerouted' AND l.answers_to = a.n
    ) moved"""
_USUAL: Final = """LEFT JOIN (
        SELECT endpoint, avg(cost_usd) AS usd FROM log_sink.v_attempts
        WHERE state = 'succeeded' AND cost_usd > 0 AND finished_at > now() - interval '30 days' GROUP BY endpoint
    ) usual ON usual.endpoint = a.endpoint"""

_SPENT: Final = f"SELECT coalesce(sum(a.cost_usd), 0) AS usd FROM log_sink.v_attempts a WHERE {_PAID}"
_UNUSED: Final = f"""
    SELECT coalesce(sum(a.cost_usd), 0) AS usd FROM log_sink.v_attempts a {_OF_JOB}
    WHERE {_PAID} AND j.finished_at IS NOT NULL AND NOT {_USED}
"""
_TWICE: Final = f"""
    SELECT count(DISTINCT a.job_id) AS jobs FROM log_sink.v_attempts a
    WHERE $__timeFilter(a.finished_at) AND {_BY_POLICY}
"""
_OPEN: Final = "SELECT count(*) AS attempts FROM log_sink.v_attempts a WHERE a.ambiguous"
_UNKNOWN: Final = """
    SELECT count(*) AS attempts FROM log_sink.v_attempts a
    WHERE a.accepted AND a.cost_usd IS NULL AND NOT a.ambiguous AND $__timeFilter(a.finished_at)
"""
_OVER_TIME: Final = f"""
    SELECT $__timeGroupAlias(a.finished_at, $__interval), a.provider AS metric, sum(a.cost_usd) AS usd
    FROM log_sink.v_attempts a WHERE {_PAID} GROUP BY 1, 2 ORDER BY 1
"""
_UNUSED_RUNS: Final = f"""
    SELECT date_trunc('second', a.finished_at) AS time, a.provider, a.endpoint, a.cost_usd AS cost, a.state,
        CASE WHEN a.late THEN 'ended after its job had gone on'
             ELSE coalesce(a.error_kind, 'its job ended otherwise') END AS why, a.job_id, a.trace_id
    FROM log_sink.v_attempts a {_OF_JOB}
    WHERE {_PAID} AND j.finished_at IS NOT NULL AND NOT {_USED}
    ORDER BY 1 DESC LIMIT 100
"""
_AMBIGUOUS: Final = f"""
    SELECT date_trunc('second', coalesce(a.submitting_at, a.first_at)) AS time, a.provider, a.endpoint, a.state,
        usual.usd AS might, date_trunc('second', a.resolve_by) AS resolved_by, a.attempt_id, a.trace_id
    FROM log_sink.v_attempts a {_USUAL}
    WHERE a.ambiguous ORDER BY 1 LIMIT 100
"""
_BOUGHT_TWICE: Final = f"""
    SELECT date_trunc('second', a.finished_at) AS time,
        CASE WHEN moved.kind IN ('output_lost', 'output_unusable') THEN 'lost_output_policy: retry_elsewhere'
             WHEN moved.kind = 'ambiguous_submission' THEN 'ambiguity_policy: resubmit'
             ELSE 'found after its job had gone on' END AS policy,
        a.provider, a.cost_usd AS first,
        (SELECT sum(b.cost_usd) FROM log_sink.v_attempts b WHERE b.job_id = a.job_id AND b.n > a.n) AS again,
        a.job_id, a.trace_id
    FROM log_sink.v_attempts a {_MOVED}
    WHERE $__timeFilter(a.finished_at) AND {_BY_POLICY}
    ORDER BY 1 DESC LIMIT 100
"""
_TIME: Final = Column(name="time", width=165)
_PROVIDER: Final = Column(name="provider", width=90)
_JOB_LINK: Final = Column(
    name="job_id",
    shown="job",
    width=140,
    link=("Show the job", "/d/segue-jobs?${__url_time_range}&var-job=${__value.raw}"),
)
_TRACE: Final = Column(name="trace_id", shown="trace", width=140, link=trace("trace_id"))


def _costs(column: str, name: str, says: str, width: int) -> Panel:
    """The costs by a column: all of it, what was not used, and what one result has cost."""
    query = f"""
    SELECT {column} AS {name}, sum(a.cost_usd) AS cost, count(*) AS paid,
        coalesce(sum(a.cost_usd) FILTER (WHERE j.finished_at IS NOT NULL AND NOT {_USED}), 0) AS unused,
        sum(a.cost_usd) / nullif(count(*) FILTER (WHERE {_USED}), 0) AS per_result
    FROM log_sink.v_attempts a {_OF_JOB}
    WHERE {_PAID}
    GROUP BY 1 ORDER BY 2 DESC LIMIT 100
    """
    columns = (
        Column(name=name, width=0 if name == "model" else 95),
        Column(name="cost", unit=_USD, width=75, decimals=2),
        Column(name="paid", shown="runs", width=55),
        Column(name="unused", shown="not used", unit=_USD, width=80, decimals=2),
        Column(name="per_result", shown="a result", unit=_USD, width=75, decimals=3),
    )
    return table(f"Cost per {name}", says, Sql(query), columns=columns, width=width)


_SUMS: Final = Row(
    "In the period shown",
    (
        stat(
            "Spent",
            "What attempts cost that ended in the period shown, by the providers' prices in the catalogue.",
            Sql(_SPENT),
            unit=_USD,
            decimals=2,
        ),
        stat(
            "Paid and not used",
            "Of that, runs that were paid for and are not their job's result: late, failed, or replaced.",
            Sql(_UNUSED),
            unit=_USD,
            decimals=2,
            steps=NONE_IS_CALM,
        ),
        stat(
            "Jobs bought twice",
            "Jobs for which a second run was ordered although the first may have cost something: because their policy "
            "says so, or because the first was found only later.",
            Sql(_TWICE),
            steps=NONE_IS_CALM,
        ),
        stat(
            "Ambiguous attempts",
            "Attempts of which nobody knows whether they were accepted, of any age. segue attempts --ambiguous lists "
            "them.",
            Sql(_OPEN),
            steps=NONE_IS_CALM,
        ),
        stat(
            "Cost not known",
            "Accepted attempts whose cost is not known, such as runs that were cancelled under way.",
            Sql(_UNKNOWN),
            steps=((None, GREY),),
        ),
        stat(
            "Spent today, of the budget",
            "Of the last 24 hours, as a share of segue:budget_usd:per_day. Without a budget there is no share: set it "
            "in deploy/prometheus/budget.yaml.",
            Prom(expr="sum(segue:spend_usd:last_24h) / sum(segue:budget_usd:per_day < Inf)"),
            unit="percentunit",
            decimals=0,
            steps=((None, "green"), (0.8, "orange"), (1, RED)),
            none="no budget",
        ),
    ),
)
_COSTS: Final = Row(
    "Who costs what",
    (
        graph(
            "Spend over time",
            "What attempts cost, by provider and by the time of their end.",
            Sql(_OVER_TIME),
            unit=_USD,
            decimals=2,
            stacked=True,
            bars=True,
            none="nothing was paid",
            calcs=("sum",),
            width=16,
        ),
        graph(
            "The last 24 hours, and the budget",
            "What attempts cost within 24 hours, by the metrics, and what an operator allows for a day.",
            Prom(expr="sum(segue:spend_usd:last_24h)", legend="spent"),
            Prom(expr="segue:budget_usd:per_day < Inf", legend="budget"),
            unit=_USD,
            decimals=2,
            colours={"spent": "blue", "budget": RED},
            none="nothing was recorded",
            calcs=("lastNotNull",),
        ),
        _costs(
            "a.provider",
            "provider",
            "By the provider that was paid. A result: all of it, for each job that used a run.",
            7,
        ),
        _costs("a.endpoint", "model", "By the provider's model.", 10),
        _costs("j.tenant", "tenant", "By the tenant whose jobs they were.", 7),
    ),
)
_VAIN: Final = Row(
    "Paid in vain, perhaps",
    (
        table(
            "Runs that were not used",
            "The newest 100 runs that were paid for and are not their job's result. Their files are kept.",
            Sql(_UNUSED_RUNS),
            columns=(
                _TIME,
                _PROVIDER,
                Column(name="endpoint", width=240),
                Column(name="cost", unit=_USD, width=80, decimals=2),
                Column(name="state", width=95, colours=STATUS),
                Column(name="why"),
                _JOB_LINK,
                _TRACE,
            ),
            width=24,
            height=7,
        ),
        table(
            "Ambiguous",
            "Attempts of which nobody knows whether they were accepted, and what such a run usually costs. Until the "
            "given time Segue looks for them; then an operator should.",
            Sql(_AMBIGUOUS),
            columns=(
                _TIME,
                _PROVIDER,
                Column(name="endpoint"),
                Column(name="state", width=95, colours=STATUS),
                Column(name="might", shown="might cost", unit=_USD, width=90, decimals=2),
                Column(name="resolved_by", shown="looked for until", width=165),
                Column(name="attempt_id", shown="attempt", width=140),
                _TRACE,
            ),
            width=24,
            height=7,
        ),
        table(
            "Bought twice, by policy",
            "Jobs for which a second run was ordered although the first may have cost something. Where the first was "
            "found after its job had gone on, that is the reason, whatever the policy. An empty cost is not known.",
            Sql(_BOUGHT_TWICE),
            columns=(
                _TIME,
                Column(name="policy"),
                _PROVIDER,
                Column(name="first", unit=_USD, width=75, decimals=2),
                Column(name="again", unit=_USD, width=75, decimals=2),
                _JOB_LINK,
                _TRACE,
            ),
            width=24,
            height=6,
        ),
    ),
)

MONEY: Final = Dashboard(
    uid="segue-money",
    title="Segue: money",
    says="What was paid to whom and for whom, and what was paid for in vain.",
    rows=(_SUMS, _COSTS, _VAIN),
    since="now-7d",
)
