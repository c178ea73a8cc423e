"""The alerts: on metrics that exist, tested both ways by promtool, each with a runbook that names what exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tests.deploy.manifests import one
from tests.deploy.monitored import METRICS, ROOT, RULES, alerts, dashboards, expressions, faults, groups

import adapter_kit.log_events
import chassis.observability.log_events
import gateway.log_events
import log_sink.log_events
import orchestrator.log_events
from chassis.observability.log_event import LogEvent
from chassis.settings.names import SETTINGS
from contracts.failures import FailureKind
from segue_cli.app import app
from segue_cli.commands import artifacts, attempts, jobs, providers

ALERTS = alerts()
CASES: list[dict[str, Any]] = yaml.safe_load((RULES / "rules_test.yaml").read_text("utf-8"))["tests"]
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
SECTIONS: dict[str, str] = dict(re.findall(r"(?ms)^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOKS))
EVENTS = {
    event.code
    for module in (chassis.observability, gateway, orchestrator, adapter_kit, log_sink)
    for kind in vars(module.log_events).values()
    if isinstance(kind, type) and issubclass(kind, LogEvent)
    for event in kind
}
WORDS = {
    *EVENTS, *METRICS, *FailureKind, *SETTINGS,
    # Settings of a request, and their values; a table; a role; what a panel and a file are called.
    "ambiguity_policy", "lost_output_policy", "max_cost_usd", "segue_reader",
    # A field of a log line.
    "last_error",
}  # fmt: skip
"""What a runbook may name in the form of an identifier."""


def query_of(case: dict[str, Any]) -> str:
    found = re.search(r'alertname="(\w+)"', case["expr"])
    assert found, case
    return found[1]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_the_runbook_is(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"


@pytest.mark.parametrize(("where", "expr"), list(expressions()), ids=lambda value: str(value)[:60])
def test_what_an_expression_names_exists(where: str, expr: str) -> None:
    assert faults(expr) == [], where


@pytest.mark.parametrize(
    ("expr", "fault"),
    [
        ("sum(segue_nothing_total)", "segue_nothing_total"),
        ("sum by (colour) (segue_outbox_published_total)", "colour"),
        ('segue_dlq_limit_exceeded{colour="red"}', "segue_dlq_limit_exceeded{colour}"),
        ('segue_jobs_ended_total{status="done"}', 'segue_jobs_ended_total{status="done"}'),
        ('segue_jobs_ended_total{kind=~"no_route|nothing"}', 'segue_jobs_ended_total{kind="no_route|nothing"}'),
        ("segue:nothing:last_1h > 0", "segue:nothing:last_1h"),
    ],
)
def test_what_does_not_exist_is_found(expr: str, fault: str) -> None:
    assert faults(expr) == [fault]


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    asked = [(query_of(each), bool(each["exp_samples"])) for case in CASES for each in case.get("promql_expr_test", [])]
    assert {name for name, fires in asked if fires} == ALERTS.keys()
    assert {name for name, fires in asked if not fires} == ALERTS.keys()


def test_a_series_of_a_case_has_the_labels_of_its_metric() -> None:
    series = [each["series"] for case in CASES for each in case["input_series"]]
    assert {name: found for name in series if (found := faults(name))} == {}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed")
@pytest.mark.parametrize(
    "arguments", [("check", "rules", "rules.yaml", "budget.yaml"), ("test", "rules", "rules_test.yaml")]
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=RULES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_operator_of_kubernetes_gets_the_same_rules() -> None:
    assert one("production", "PrometheusRule", "segue")["spec"]["groups"] == groups()
    assert one("production", "PrometheusRule", "segue-budget")["spec"]["groups"] == groups("budget.yaml")


def test_each_alert_has_a_runbook_and_no_runbook_is_left_over() -> None:
    assert SECTIONS.keys() == ALERTS.keys()
    parts = ("It says", "For jobs and money.", "Look.", "Do.", "It ends")
    missing = {(name, part) for name, text in SECTIONS.items() for part in parts if f"**{part}**" not in text}
    assert missing == set()


@pytest.mark.parametrize("name", SECTIONS)
def test_a_runbook_names_what_exists(name: str) -> None:
    text = re.sub(r"(?s)```.*?```", "", SECTIONS[name])
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+|[A-Z]+(?:_[A-Z]+)+)`", text))
    assert named - WORDS == set()
    assert set(re.findall(r"\bSegue[A-Z]\w+", text)) <= ALERTS.keys()
    assert [command for command in re.findall(r"`segue ([^`]+)`", text) if not runs(command.split())] == []


@pytest.mark.parametrize("name", SECTIONS)
def test_a_runbook_names_panels_that_exist(name: str) -> None:
    panels = {board: {panel["title"] for panel in found["panels"]} for board, found in dashboards().items()}
    every = {title for titles in panels.values() for title in titles}
    text = " ".join(SECTIONS[name].split())
    assert {each.lower() for each in re.findall(r"dashboard \*(\w+)\*", text)} <= panels.keys()
    assert set(re.findall(r'"([A-Z][^"]+)"', text)) <= every


@pytest.mark.parametrize("name", ["monitoring.md"])
def test_the_page_on_monitoring_lists_every_alert_by_its_severity(name: str) -> None:
    page = (ROOT / "docs" / "operations" / name).read_text("utf-8")
    for severity in ("critical", "warning"):
        row = re.search(rf"(?m)^\| {severity} \| (.+) \|$", page)
        assert row
        wanted = {alert for alert, rule in ALERTS.items() if rule["labels"]["severity"] == severity}
        assert set(row[1].split(", ")) == wanted


def commands() -> Any:
    whole = typer.Typer(callback=lambda: None)
    whole.registered_commands += app.registered_commands
    for module in (artifacts, attempts, jobs, providers):
        module.add_to(whole)
    return typer.main.get_command(whole)


def runs(words: list[str]) -> bool:
    """Whether `segue` has the command, with the options that are named."""
    found = commands()
    if not words or words[0] not in found.commands:
        return False
    while words and words[0] in getattr(found, "commands", {}):
        found, words = found.commands[words[0]], words[1:]
    options = {option for each in found.params for option in (*each.opts, *each.secondary_opts)}
    return all(word in options for word in words if word.startswith("--"))


@pytest.mark.parametrize("command", ["attempts --ambiguity", "nothing", "roles --create"])
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    assert not runs(command.split())


def test_the_rules_are_where_compose_and_the_documents_say() -> None:
    mounted = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["prometheus"]["volumes"]
    files = {Path(volume.split(":")[0]).name for volume in mounted if "/rules/" in volume}
    assert files == {"rules.yaml", "budget.yaml"}
