"""The dashboards: fresh, whole, and with data sources, links and files that exist."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from tests.deploy.manifests import one
from tests.deploy.monitored import OF_SCRAPES, ROOT, dashboards, metric_of, targets

from boards import files
from contracts.schemas import SCHEMAS
from pictures import empty

DASHBOARDS = dashboards()
PROVISIONING = ROOT / "deploy" / "compose" / "grafana" / "provisioning"
SOURCES: dict[str, dict[str, Any]] = {
    each["uid"]: each
    for each in yaml.safe_load((PROVISIONING / "datasources" / "segue.yaml").read_text("utf-8"))["datasources"]
}
NAMES = ("overview", "providers", "flow", "jobs", "money")


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]


def test_they_are_what_the_code_makes() -> None:
    assert files.stale() == []
    assert {*DASHBOARDS} == {*NAMES}


def test_drift_is_found(tmp_path: Path) -> None:
    shutil.copytree(files.FOLDER, tmp_path / "dashboards")
    folder = tmp_path / "dashboards"
    (folder / "flow.json").write_text("{}")
    (folder / "old.json").write_text("{}")
    assert files.stale(folder) == ["flow.json", "old.json"]
    for name in files.stale(folder):
        files.write(name, folder)
    assert files.stale(folder) == []


def test_each_has_a_uid_of_its_own_that_links_lead_to() -> None:
    uids = [board["uid"] for board in DASHBOARDS.values()]
    assert sorted(uids) == sorted(f"segue-{name}" for name in NAMES)
    text = json.dumps(DASHBOARDS)
    assert set(re.findall(r"/d/([\w-]+)", text)) <= {*uids}


@pytest.mark.parametrize("name", NAMES)
def test_panels_say_what_they_show_and_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert all(panel["description"].endswith(".") for panel in panels(name))
    says = {panel["title"]: panel["fieldConfig"]["defaults"].get("noValue") for panel in panels(name)}
    # In a table the text would stand in every empty cell.
    assert {title for title, text in says.items() if not text} == {
        panel["title"] for panel in panels(name) if panel["type"] == "table"
    }
    for what in ("id", "title"):
        found = [panel[what] for panel in DASHBOARDS[name]["panels"]]
        assert len(found) == len({*found})


@pytest.mark.parametrize("name", NAMES)
def test_no_page_has_lines_that_end_early(name: str) -> None:
    """Each line of panels is as wide as the page."""
    widths: dict[int, int] = {}
    for panel in panels(name):
        widths[panel["gridPos"]["y"]] = widths.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert {*widths.values()} == {24}


@pytest.mark.parametrize("name", NAMES)
def test_data_sources_are_provisioned_under_these_uids(name: str) -> None:
    asked = {
        (target["datasource"]["uid"], target["datasource"]["type"])
        for panel in panels(name)
        for target in panel["targets"]
    }
    assert asked <= {(uid, source["type"]) for uid, source in SOURCES.items()}
    explored = re.findall(r'/explore\?[^"]*panes=([^"]+)"', json.dumps(DASHBOARDS[name]))
    for pane in explored:
        [shown] = json.loads(unquote(pane)).values()
        assert shown["datasource"] in SOURCES
        assert shown["queries"][0]["datasource"]["type"] == SOURCES[shown["datasource"]]["type"]


def test_variables_that_queries_use_are_defined() -> None:
    for name, board in DASHBOARDS.items():
        defined = {variable["name"] for variable in board["templating"]["list"]}
        text = json.dumps([panel["targets"] for panel in panels(name)])
        used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__range", "__interval"}
        assert {each for each in used if not each.startswith("__time")} <= defined, name


def test_a_link_fills_in_columns_that_the_row_has() -> None:
    for name in NAMES:
        for panel in panels(name):
            named = set(re.findall(r"__data\.fields\.(\w+)", unquote(json.dumps(panel["fieldConfig"]))))
            assert all(re.search(rf"\b{column}\b", panel["targets"][0]["rawSql"]) for column in named), panel["title"]


def test_a_legend_names_labels_that_the_series_have() -> None:
    for name, target in targets("prometheus"):
        expr = target["expr"]
        grouped = {each for group in re.findall(r"\bby \(([^)]*)\)", expr) for each in re.findall(r"\w+", group)}
        metrics = [metric for series in re.findall(r"segue_\w+", expr) if (metric := metric_of(series))]
        known = grouped or {label for metric in metrics for label in metric.labels} | OF_SCRAPES
        known |= {"provider"} if "segue:spend_usd" in expr else set()
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known, name


def test_sql_reads_only_what_people_may_read() -> None:
    allowed = {f"{schema.name}.{view}" for schema in SCHEMAS for view in schema.for_people}
    read = {
        name
        for _, target in targets("grafana-postgresql-datasource")
        for name in re.findall(r"(?:FROM|JOIN) (\w+\.\w+)", target["rawSql"])
    }
    assert read
    assert read <= allowed
    assert SOURCES["segue"]["user"] == "segue_reader"


def test_compose_loads_them_and_makes_the_first_the_home() -> None:
    parts = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"]
    grafana = parts["grafana"]
    [provider] = yaml.safe_load((PROVISIONING / "dashboards" / "segue.yaml").read_text("utf-8"))["providers"]
    mounted = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/overview.json"
    assert grafana["environment"]["READER_PASSWORD"] == parts["reader"]["environment"]["READER_PASSWORD"]
    assert "segue roles --apply" in parts["setup"]["command"][0]


@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_gets_the_same_dashboards(name: str) -> None:
    found = one("production", "ConfigMap", f"segue-{name}")
    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert {file: json.loads(text) for file, text in found["data"].items()} == {f"{name}.json": DASHBOARDS[name]}


def found(title: str, *values: float | None) -> dict[str, Any]:
    """What a run found for a dashboard of one panel with two queries, the first of which found a value."""
    frames = [
        {"refId": ref, "fields": [{"type": "number", "values": each}]} for ref, each in (("A", [1]), ("B", values))
    ]
    panel = {"id": 1, "title": title, "targets": [{"refId": "A"}, {"refId": "B"}]}
    return {"providers": {"dashboard": {"panels": [panel]}, "frames": {"1": frames}}}


def test_a_query_that_finds_nothing_is_a_fault_unless_its_panel_is_listed_with_a_reason() -> None:
    [(board, listed)] = empty.MAY_BE_EMPTY
    assert empty.MAY_BE_EMPTY[board, listed]
    assert empty.faults(found(listed, None)) == []
    assert empty.faults(found(listed, 2)) == [f"{board}: {listed}: may be empty, and is not: take it off the list"]
    missing = f"{board}: {listed}: may be empty, and there is no such panel"
    assert empty.faults(found("Calls", 0)) == [missing]
    assert empty.faults(found("Calls", None)) == ["providers: Calls: nothing for query B", missing]
    assert (board, listed) in {(name, panel["title"]) for name in NAMES for panel in panels(name)}
