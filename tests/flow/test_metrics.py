"""The registry of metrics is complete: no metric is defined elsewhere, and every metric that is named exists."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import adapter_kit.metrics
import chassis.observability.metrics
import gateway.metrics
import log_sink.metrics
import orchestrator.metrics
from chassis.http import refusals
from chassis.observability.metric import Metric
from contracts.topics import SERVICES, TOPICS

ROOT = Path(__file__).resolve().parents[2]
LISTS = (
    chassis.observability.metrics.METRICS,
    gateway.metrics.METRICS,
    orchestrator.metrics.METRICS,
    adapter_kit.metrics.METRICS,
    log_sink.metrics.METRICS,
)
METRICS = {metric.name: metric for each in LISTS for metric in each.defined}
SOURCES = [
    path for folder in ("chassis", "adapter-kit", "services/*") for path in sorted(ROOT.glob(f"{folder}/src/**/*.py"))
]
DEFINES = re.compile(r"from prometheus_client import .*\b(?:Counter|Gauge|Histogram|Summary|Info|Enum)\b")
READERS = [
    path
    for pattern in ("*.md", "docs/**/*", "deploy/*/*", "bench/*", "chaos/src/**/*", "cli/src/**/*")
    for path in sorted(ROOT.glob(pattern))
    if path.suffix in {".md", ".py", ".json", ".yml", ".yaml"}
]
NO_METRICS = {
    "segue_cli",
    # Zones of the nginx in docs/exposure.md.
    "segue_connections",
    "segue_requests",
    # Roles in the database, which docs/operations/postgres.md names.
    "segue_reader",
    *(f"segue_{service.replace('-', '_')}" for service in SERVICES),
    *(topic.name.replace(".", "_").replace("-", "_") for topic in TOPICS),
}
SUFFIXES = re.compile(r"_(bucket|sum|count|created)$")


def test_each_metric_is_defined_in_the_registry_and_nowhere_else() -> None:
    outside = [
        path.relative_to(ROOT).as_posix() for path in SOURCES if DEFINES.search(path.read_text(encoding="utf-8"))
    ]
    assert outside == ["chassis/src/chassis/observability/metric.py"]
    exposed = {family.name for family in REGISTRY.collect() if family.name.startswith("segue_")}
    assert exposed == {name.removesuffix("_total") for name in METRICS}


def test_no_two_metrics_have_the_same_name() -> None:
    counted = Counter(metric.name for each in LISTS for metric in each.defined)
    assert [name for name, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_metric_is_named_by_the_conventions_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"segue_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.type == "counter")
    assert metric.name.endswith("_seconds") or metric.type != "histogram"


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_metric_that_a_file_names_is_in_the_registry(path: Path) -> None:
    named = set(re.findall(r"\bsegue_[a-z_]+", path.read_text(encoding="utf-8"))) - NO_METRICS
    assert {name for name in named if SUFFIXES.sub("", name) not in METRICS} == set()


def test_the_reasons_of_refusals_are_listed() -> None:
    reasons = METRICS["segue_http_turned_away_total"].labels["reason"]
    kinds = [each.kind for each in vars(refusals).values() if isinstance(each, refusals.Refusal)]
    assert [kind for kind in kinds if f"`{kind}`" not in reasons] == []
