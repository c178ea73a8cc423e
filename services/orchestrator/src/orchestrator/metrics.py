"""The metrics of the orchestrator."""

from __future__ import annotations

from typing import Final

from chassis.observability.metric import MetricList

_STATUS: Final = "`succeeded`, `failed` or `cancelled`"
_KIND: Final = "the kind of failure (`contracts/failures.py`)"

METRICS: Final = MetricList("orchestrator")

JOBS_ENDED = METRICS.counter(
    "segue_jobs_ended_total",
    "Jobs that ended.",
    {"status": _STATUS, "kind": f"{_KIND}; empty unless `failed`"},
    unit="jobs",
    watch="The share of `failed`, by `kind`.",
)
JOB_SECONDS = METRICS.histogram(
    "segue_job_seconds",
    "From the moment at which a request was accepted to the end of its job. Exemplars have the `trace_id`.",
    {"status": _STATUS},
    buckets=(0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1200, 1800),
    watch="Growth: a provider slows down, or jobs wait; see `segue_attempt_seconds` for the part of the providers.",
)
JOB_COST = METRICS.counter(
    "segue_job_cost_usd_total",
    "What attempts of jobs cost, failed ones too, once it is known.",
    {"provider": "the provider that was paid", "modality": "`music` or `images`"},
    unit="USD",
    watch="A rate above the budget.",
)
JOBS = METRICS.gauge(
    "segue_jobs",
    "Jobs that have not ended, read every 15 s.",
    {"state": "`queued`: no provider has accepted a run yet; `running`"},
    unit="jobs",
    watch="Growth of `queued`: providers are unavailable or at their limits, or an adapter is silent.",
)
JOBS_OVERDUE = METRICS.gauge(
    "segue_jobs_overdue",
    "Jobs that have not ended 30 s after their deadline, read every 15 s.",
    unit="jobs",
    watch="Any: jobs end 15 s after their deadline at the latest. See `job_postponed` in the log.",
)
ADAPTER_SILENT = METRICS.gauge(
    "segue_adapter_silent",
    "Whether an adapter has not been heard of for `SEGUE_ADAPTER_SILENT_S`; no job is sent to its provider then.",
    {"provider": "the provider of the adapter"},
    unit="0 or 1",
    watch="1.",
)
REROUTED = METRICS.counter(
    "segue_jobs_rerouted_total",
    "Jobs moved on to the next provider.",
    {"from": "the provider that failed", "to": "the next provider", "kind": _KIND},
    unit="jobs",
    watch="A rate that persists: the provider in `from` fails for the reason in `kind`.",
)
