"""The table of alerts: the rules in short time, the names that it expects, and what it calls a fault."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.alerts.bench import RULES
from chaos.alerts.cases import CASES
from chaos.alerts.rules import FACTOR, shortened
from chaos.alerts.table import Outcome, faults, markdown, read, write

LONG = (RULES / "rules.yaml").read_text("utf-8")


def alerts(text: str) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(text)["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_each_duration_is_divided_and_nothing_else() -> None:
    long, short = alerts(LONG), alerts(shortened(LONG))
    assert short.keys() == long.keys()
    assert short["SegueServiceDown"]["for"] == f"{120 // FACTOR}s"
    assert short["SegueServiceDown"]["expr"] == long["SegueServiceDown"]["expr"]
    assert "for" not in short["SegueDeadLetters"]
    assert f"[{900 // FACTOR}s]" in short["SegueDeadLetters"]["expr"]
    assert f"offset {900 // FACTOR}s" in short["SegueDeadLetters"]["expr"]
    assert f"> {60 // FACTOR}" in short["SegueOutboxOld"]["expr"]
    assert f"> {600 // FACTOR}" in short["SegueAmbiguousHeld"]["expr"]
    assert short["SegueLag"]["expr"] == long["SegueLag"]["expr"]
    assert short["SegueClocksDiffer"]["expr"] == long["SegueClocksDiffer"]["expr"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed")
def test_prometheus_takes_the_short_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(shortened(LONG))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_cases_name_alerts_that_exist_and_every_critical_one() -> None:
    every = alerts(LONG)
    assert {name for case in CASES for name in (*case.expected, *case.may)} <= every.keys()
    expected = {name for case in CASES for name in case.expected}
    assert {name for name, rule in every.items() if rule["labels"]["severity"] == "critical"} <= expected
    assert len({case.name for case in CASES}) == len(CASES)


def outcome(**given: Any) -> Outcome:
    return Outcome(**{"name": "garbage", "fired": {}, "after": [], "cleared": True, "clear_s": 1.0, **given})


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"fired": {"SegueDeadLetters": 3.0}}, []),
        ({}, ["SegueDeadLetters did not fire"]),
        ({"fired": {"SegueDeadLetters": 3.0}, "cleared": False}, ["not every alert ended"]),
        ({"fired": {"SegueDeadLetters": 3.0, "SegueLag": 4.0}}, ["SegueLag fired and was not expected"]),
        ({"fired": {"SegueDeadLetters": 3.0}, "after": ["SegueLag"]}, ["SegueLag fired and was not expected"]),
        ({"fired": {"SegueDeadLetters": 3.0}, "error": "OSError: away"}, ["OSError: away"]),
    ],
)
def test_what_is_not_as_expected_is_named(given: dict[str, Any], found: list[str]) -> None:
    [case] = [case for case in CASES if case.name == "garbage"]
    assert faults(case, outcome(**given)) == found


def test_outcomes_are_kept_and_become_a_table(tmp_path: Path) -> None:
    kept = {"garbage": outcome(fired={"SegueDeadLetters": 3.4})}
    write(tmp_path / "build" / "alerts.json", kept)
    assert read(tmp_path / "build" / "alerts.json") == kept
    assert read(tmp_path / "nothing.json") == {}
    assert markdown(CASES, kept).splitlines()[2:] == [
        "| three records that nobody can read | **SegueDeadLetters 3** | yes |"
    ]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("chaos.alerts", "--faults", "garbage,none-such"), "there is no fault none-such: one of no-adapter, "),
        (("chaos.alerts.drill", "--fault", "none-such"), "there is no fault none-such: one of no-adapter, "),
        (("chaos.alerts.drill",), "the answer is read from standard input, which has to be a terminal or a pipe"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(argv: tuple[str, ...], says: str) -> None:
    command = [sys.executable, "-m", *argv]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1
