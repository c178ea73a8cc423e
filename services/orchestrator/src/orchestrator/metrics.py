"""The metrics of the orchestrator."""

from __future__ import annotations

from typing import Final

from chassis.observability.metric import MetricList

_KIND: Final = "the kind of failure (`contracts/failures.py`)"

METRICS: Final = MetricList("orchestrator")

JOBS_ENDED = METRICS.counter(
    "segue_jobs_ended_total",
    "Jobs that ended.",
    {"status": "`succeeded`, `failed` or `cancelled`", "kind": f"{_KIND}; empty unless `failed`"},
    unit="jobs",
    watch="The share of `failed`, by `kind`.",
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
