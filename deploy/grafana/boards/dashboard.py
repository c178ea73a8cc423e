"""A dashboard as a value: rows of panels, variables, and the links between the dashboards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from boards.panels import Panel
from boards.queries import POSTGRES, PROMETHEUS, Json

SCHEMA_VERSION: Final = 41
_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Row:
    """Panels below a heading; they go to the next line where the page ends."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A dashboard. Its uid never changes, since links lead to it."""

    uid: str
    title: str
    says: str
    rows: Sequence[Row]
    variables: Sequence[Json] = ()
    since: str = "now-6h"

    def model(self) -> Json:
        """Its JSON."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.says,
            "tags": ["segue"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "timezone": "browser",
            "time": {"from": self.since, "to": "now"},
            "timepicker": {},
            "refresh": "30s",
            "links": [_others()],
            "annotations": {"list": []},
            "templating": {"list": list(self.variables)},
            "panels": self._panels(),
        }

    def _panels(self) -> list[Json]:
        found: list[Json] = []
        y = 0
        for row in self.rows:
            found.append(_heading(row.title, len(found) + 1, y))
            x, y, highest = 0, y + 1, 0
            for panel in row.panels:
                if x + panel.width > _WIDTH:
                    x, y, highest = 0, y + highest, 0
                found.append(panel.model(len(found) + 1, x, y))
                x, highest = x + panel.width, max(highest, panel.height)
            y += highest
        return found


def text(dashboard: Dashboard) -> str:
    """The file of a dashboard."""
    return json.dumps(dashboard.model(), indent=2, ensure_ascii=False) + "\n"


def textbox(name: str, label: str, says: str) -> Json:
    """A variable that is typed in; empty at first."""
    empty = {"text": "", "value": ""}
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "description": says,
        "query": "",
        "current": empty,
        "options": [empty | {"selected": True}],
        "hide": 0,
    }


def choice(name: str, label: str, values: Sequence[str]) -> Json:
    """A variable with some of these values, at first with all."""
    return {
        "type": "custom",
        "name": name,
        "label": label,
        "query": ",".join(values),
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
        "hide": 0,
    }


def of_labels(name: str, label: str, metric: str, of: str) -> Json:
    """A variable with some of the values of a label, at first with all."""
    query = f"label_values({metric}, {of})"
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": PROMETHEUS,
        "query": {"qryType": 1, "query": query, "refId": "variable"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
        "hide": 0,
    }


def of_rows(name: str, label: str, sql: str) -> Json:
    """A variable with one of the values that the SQL returns, at first with all, which is the pattern '%'."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": POSTGRES,
        "query": sql,
        "definition": sql,
        "refresh": 2,
        "sort": 1,
        "multi": False,
        "includeAll": True,
        # Grafana puts this in as it is, and every other value as a quoted string.
        "allValue": "'%'",
        "current": {"text": "All", "value": "$__all"},
        "options": [],
        "hide": 0,
    }


def trace(field: str) -> tuple[str, str]:
    """The link to the trace whose id is in a field of the row."""
    return "Show the trace", _explore("tempo", "tempo", f"${{__data.fields.{field}}}", queryType="traceql")


def logs(field: str) -> tuple[str, str]:
    """The link to the log lines that have the value of a field of the row."""
    expr = '{service_name=~".+"} |= `' + f"${{__data.fields.{field}}}" + "`"
    return "Show the log lines", _explore("loki", "loki", "", expr=expr)


def _explore(uid: str, kind: str, query: str, **more: str) -> str:
    asked = {"refId": "A", "datasource": {"type": kind, "uid": uid}, **({"query": query} if query else {}), **more}
    pane = {"datasource": uid, "queries": [asked], "range": {"from": "${__from}", "to": "${__to}"}}
    # Grafana fills in `${…}` before it follows the link, so these characters stay.
    return "/explore?schemaVersion=1&orgId=1&panes=" + quote(json.dumps({"segue": pane}), safe="${}._")


def _others() -> Json:
    return {
        "type": "dashboards",
        "title": "Segue",
        "tags": ["segue"],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _heading(title: str, number: int, y: int) -> Json:
    place = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
