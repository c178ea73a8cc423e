"""The rules, the dashboards and the runbooks, and what they name: metrics, labels and their values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import adapter_kit.metrics
import chassis.observability.metrics
import gateway.metrics
import log_sink.metrics
import orchestrator.metrics
from chassis.observability.metric import Metric
from contracts.failures import FailureKind
from contracts.providers.registry import PROVIDERS
from contracts.topics import SERVICES, TOPICS

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
METRICS: dict[str, Metric] = {
    metric.name: metric
    for module in (chassis.observability, gateway, orchestrator, adapter_kit, log_sink)
    for metric in module.metrics.METRICS.defined
}
OF_PROMETHEUS = {"process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total", "ALERTS"}
OF_SCRAPES = {"service", "instance", "pod", "le", "alertname", "alertstate"}
"""Labels that no metric defines itself."""
VALUES = {
    "service": {*SERVICES},
    "provider": {*PROVIDERS},
    "topic": {topic.name for topic in TOPICS},
    "kind": {*FailureKind},
    "verdict": {*FailureKind, "running", "succeeded", "failed", "cancelled"},
    "alertstate": {"firing", "pending"},
}
"""Values of labels that are listed elsewhere than at the metric."""


def groups(file: str = "rules.yaml") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((RULES / file).read_text("utf-8"))["groups"]
    return found


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in groups() for rule in group["rules"] if "alert" in rule}


def recorded() -> set[str]:
    files = ("rules.yaml", "budget.yaml")
    return {rule["record"] for file in files for group in groups(file) for rule in group["rules"] if "record" in rule}


def dashboards() -> dict[str, dict[str, Any]]:
    folder = ROOT / "deploy" / "grafana" / "dashboards"
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}


def targets(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The queries of all panels for a kind of data source, each with the names of its dashboard and its panel."""
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                if target["datasource"]["type"] == kind:
                    yield f"{name}: {panel['title']} {target['refId']}", target


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression in PromQL of the rules and the dashboards, with where it stands."""
    for file in ("rules.yaml", "budget.yaml"):
        for group in groups(file):
            for rule in group["rules"]:
                yield f"{file}: {rule.get('alert') or rule['record']}", rule["expr"]
    for name, target in targets("prometheus"):
        yield name, target["expr"]


def metric_of(series: str) -> Metric | None:
    """The metric of a series of Segue's."""
    return METRICS.get(series) or METRICS.get(re.sub(r"_(bucket|sum|count)$", "", series))


def faults(expr: str) -> list[str]:
    """What an expression names that does not exist."""
    series = set(re.findall(r"(?<![\w:\"])(segue_\w+|process_\w+|ALERTS)", expr))
    wrong = [name for name in series if metric_of(name) is None and name not in OF_PROMETHEUS]
    wrong += [name for name in re.findall(r"\bsegue:\w+:\w+", expr) if name not in recorded()]
    if wrong:
        return sorted(wrong)
    labels = {label for name in series if (metric := metric_of(name)) for label in metric.labels} | OF_SCRAPES
    labels |= {"provider"} if "segue:spend_usd" in expr else set()
    grouped = re.findall(r"\b(?:by|on|ignoring|without) \(([^)]*)\)", expr)
    wrong += [each for group in grouped for each in re.findall(r"\w+", group) if each not in labels]
    for name, matchers in re.findall(r"(segue_\w+|ALERTS|process_\w+)\{([^}]*)\}", expr):
        metric = metric_of(name)
        known = {**metric.labels} if metric else {}
        for label, how, value in re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', matchers):
            if label not in {*known, *OF_SCRAPES}:
                wrong.append(f"{name}{{{label}}}")
            elif not known_value(label, known.get(label, ""), how, value):
                wrong.append(f'{name}{{{label}="{value}"}}')
    return sorted(wrong)


def known_value(label: str, meaning: str, how: str, value: str) -> bool:
    """Whether a label may have the value, or for a pattern whether each of its alternatives matches one."""
    if not value or value.startswith("$") or label == "route":
        return True
    values = {*re.findall(r"`([^`]*)`", meaning), *VALUES.get(label, ())}
    alternatives = value.split("|") if "~" in how else [re.escape(value)]
    return not values or all(any(re.fullmatch(each, one) for one in values) for each in alternatives)
