"""What Grafana puts into a query before it asks: the period shown, and the values of variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

SCRAPE_S: Final = 5
"""Seconds between two scrapes; a rate is over four of them at least."""
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
_ALL: Final = "$__all"


@dataclass(frozen=True, slots=True)
class Shown:
    """The period of a dashboard, and what its variables are set to."""

    since: datetime
    until: datetime
    step_s: int
    variables: Mapping[str, Any]
    """The variables of the dashboard's JSON, by name."""
    chosen: Mapping[str, str] = field(default_factory=dict)
    """What is put into a variable in the place of its first value."""

    def promql(self, expr: str) -> str:
        """A query in PromQL as Prometheus gets it."""
        range_s = int((self.until - self.since).total_seconds())
        rate_s = max(4 * SCRAPE_S, self.step_s + SCRAPE_S)
        own = {"__rate_interval": f"{rate_s}s", "__range": f"{range_s}s", "__interval": f"{self.step_s}s"}
        return _VARIABLE.sub(lambda found: self._value(found, own), expr)

    def sql(self, text: str) -> str:
        """A query in SQL as PostgreSQL gets it."""
        group = rf'floor(extract(epoch FROM \1) / {self.step_s}) * {self.step_s} AS "time"'
        text = re.sub(r"\$__timeGroupAlias\(([^,()]+), \$__interval\)", group, text)
        between = f"BETWEEN '{_at(self.since)}' AND '{_at(self.until)}'"
        text = re.sub(r"\$__timeFilter\(([^()]+)\)", rf"\1 {between}", text)
        return _VARIABLE.sub(lambda found: self._value(found, {}), text)

    def _value(self, found: re.Match[str], own: Mapping[str, str]) -> str:
        name, how = found[1] or found[3], found[2]
        if name in own:
            return own[name]
        variable = self.variables[name]
        value = self.chosen.get(name, variable["current"]["value"])
        if value in (_ALL, [_ALL]):
            if "allValue" in variable:
                return str(variable["allValue"])
            value = variable["query"].split(",")
        values = [value] if isinstance(value, str) else value
        return ",".join(_quoted(each) if how == "sqlstring" else each for each in values)


def variables_of(dashboard: Mapping[str, Any]) -> dict[str, Any]:
    """The variables in the JSON of a dashboard, by name."""
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _at(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
