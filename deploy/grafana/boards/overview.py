"""Overview: whether jobs get done, how long they take, and what they cost."""

from __future__ import annotations

from typing import Final

from boards.dashboard import Dashboard, Row
from boards.panels import GREEN, NONE_IS_GOOD, ORANGE, QUANTILES, RED, STATUS, graph, stat
from boards.queries import Prom, grown, p, share

_ENDED: Final = "segue_jobs_ended_total"
_FAILED: Final = grown(f'{_ENDED}{{status="failed"}}', "5m")
_GOOD_SHARE: Final = ((None, RED), (0.9, ORANGE), (0.98, GREEN))
_RESULT: Final = 'sum by (le) (rate(segue_job_seconds_bucket{status="succeeded"}[%s]))'
_LONG: Final = _RESULT % "$__range"
_SHORT: Final = _RESULT % "$__rate_interval"

_NOW: Final = Row(
    "Now",
    (
        stat(
            "Jobs under way",
            "Jobs that have not ended: queued or running.",
            Prom(expr="sum(max by (state) (segue_jobs))"),
            graph=True,
        ),
        stat(
            "Success",
            "Succeeded jobs as a share of succeeded and failed ones, over the period shown.",
            Prom(
                expr=share(
                    grown(f'{_ENDED}{{status="succeeded"}}', "$__range"),
                    grown(f'{_ENDED}{{status=~"succeeded|failed"}}', "$__range"),
                ),
                instant=True,
            ),
            unit="percentunit",
            decimals=1,
            steps=_GOOD_SHARE,
            none="no job ended",
        ),
        stat(
            "Failovers per job",
            "How often a job moved to the next provider, for each job that ended, over the period shown.",
            Prom(
                expr=share(grown("segue_jobs_rerouted_total", "$__range"), grown(_ENDED, "$__range")),
                instant=True,
            ),
            decimals=2,
            steps=((None, GREEN), (0.1, ORANGE), (0.5, RED)),
            none="no job ended",
        ),
        stat(
            "Time to result, p95",
            "Nineteen of twenty jobs that succeeded took no longer, from the accepted request to the result.",
            Prom(expr=p(0.95, _LONG), instant=True),
            unit="s",
            decimals=1,
            none="no result",
        ),
        stat(
            "Spent in the last hour",
            "What attempts cost that ended within the last hour, by the providers' prices in the catalogue.",
            Prom(expr="sum(segue:spend_usd:last_1h)"),
            unit="currencyUSD",
            decimals=2,
            none="$0",
            graph=True,
        ),
        stat(
            "Alerts firing",
            "Alerts of Segue that fire. docs/runbooks.md says what each means and what to do.",
            Prom(expr='count(ALERTS{alertname=~"Segue.*", alertstate="firing"}) or vector(0)'),
            steps=NONE_IS_GOOD,
        ),
    ),
)

_JOBS: Final = Row(
    "Jobs",
    (
        graph(
            "Jobs under way, by state",
            "Queued: no provider has it yet. Running: one has. It rises while providers are slow or jobs wait.",
            Prom(expr="max by (state) (segue_jobs)", legend="{{state}}"),
            stacked=True,
            colours=STATUS,
        ),
        graph(
            "Jobs ended per minute",
            "By how they ended.",
            Prom(expr=f"sum by (status) (rate({_ENDED}[$__rate_interval])) * 60", legend="{{status}}"),
            stacked=True,
            colours=STATUS,
            none="no job ended",
            calcs=("mean", "max"),
        ),
        graph(
            "Time to result",
            "From the accepted request to the end of jobs that succeeded. A point leads to the trace of one of them.",
            Prom(expr=p(0.5, _SHORT), legend="p50", exemplars=True),
            Prom(expr=p(0.95, _SHORT), legend="p95"),
            Prom(expr=p(0.99, _SHORT), legend="p99"),
            unit="s",
            colours=QUANTILES,
            none="no result",
            calcs=("mean", "max"),
        ),
        graph(
            "Failed jobs, by kind",
            "Jobs that failed within five minutes, by the kind of failure (contracts/failures.py). "
            "invalid_input and content_policy are the caller's.",
            Prom(expr=f"sum by (kind) ({_FAILED}) > 0", legend="{{kind}}"),
            stacked=True,
            decimals=0,
            none="no job failed",
            calcs=("max",),
        ),
        graph(
            "Failovers, by reason",
            "Jobs that moved to the next provider within five minutes, and why.",
            Prom(
                expr=f"sum by (from, to, kind) ({grown('segue_jobs_rerouted_total', '5m')}) > 0",
                legend="{{from}} → {{to}}: {{kind}}",
            ),
            stacked=True,
            decimals=0,
            none="no failover",
            calcs=("max",),
        ),
        graph(
            "Spend per hour",
            "What attempts cost that ended within the last hour, by provider.",
            Prom(expr="segue:spend_usd:last_1h", legend="{{provider}}"),
            unit="currencyUSD",
            decimals=2,
            stacked=True,
            none="nothing was spent",
        ),
    ),
)

_API: Final = Row(
    "API",
    (
        graph(
            "Requests per second, by status",
            "Requests to the gateway. 503: Kafka or PostgreSQL is away, and the client repeats its request.",
            Prom(
                expr='sum by (status) (rate(segue_http_requests_total{service="gateway", route=~"/api/.*"}'
                "[$__rate_interval]))",
                legend="{{status}}",
            ),
            unit="reqps",
            stacked=True,
            calcs=("mean", "max"),
        ),
        graph(
            "Latency, p95 by route",
            "Nineteen of twenty requests were answered within this time. Calls with Prefer: wait are as long as they "
            "are asked to be.",
            Prom(
                expr=p(
                    0.95,
                    "sum by (le, method, route) (rate(segue_http_request_seconds_bucket"
                    '{service="gateway", route=~"/api/.*"}[$__rate_interval]))',
                ),
                legend="{{method}} {{route}}",
            ),
            unit="s",
            calcs=("mean", "max"),
        ),
        graph(
            "Jobs past their deadline",
            "Jobs that should have ended more than 30 seconds ago. It is 0 as long as the orchestrator keeps up.",
            Prom(expr="max(segue_jobs_overdue)", legend="past their deadline"),
            decimals=0,
            colours={"past their deadline": RED},
        ),
    ),
)

OVERVIEW: Final = Dashboard(
    uid="segue-overview",
    title="Segue: overview",
    says="Whether jobs get done, how long they take, and what they cost.",
    rows=(_NOW, _JOBS, _API),
)
