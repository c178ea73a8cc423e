"""What a panel asks: PromQL of Prometheus, or SQL of the tables that `segue_reader` may read."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent
from typing import Any, Final

PROMETHEUS: Final = {"type": "prometheus", "uid": "prometheus"}
POSTGRES: Final = {"type": "grafana-postgresql-datasource", "uid": "segue"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prom:
    """A query in PromQL."""

    expr: str
    legend: str = ""
    """The name of each series; `{{label}}` is the value of a label."""
    instant: bool = False
    """Only the latest value."""
    exemplars: bool = False
    """With the traces that single values come from."""

    def target(self, ref: str, panel: str) -> Json:
        """The query in the model of a panel of this type."""
        return {
            "refId": ref,
            "datasource": PROMETHEUS,
            "editorMode": "code",
            "expr": self.expr,
            "legendFormat": self.legend or "__auto",
            "instant": self.instant,
            "range": not self.instant,
            "exemplar": self.exemplars,
            "format": "table" if panel == "table" else "time_series",
        }


@dataclass(frozen=True, slots=True)
class Sql:
    """A query in SQL. For a graph it returns `time`, `metric` and a value."""

    text: str

    def target(self, ref: str, panel: str) -> Json:
        """The query in the model of a panel of this type."""
        return {
            "refId": ref,
            "datasource": POSTGRES,
            "editorMode": "code",
            "rawQuery": True,
            "rawSql": dedent(self.text).strip(),
            "format": "time_series" if panel == "timeseries" else "table",
        }


Query = Prom | Sql


def p(share: float, buckets: str) -> str:
    """A quantile of a histogram whose rates of buckets are given."""
    return f"histogram_quantile({share}, {buckets})"


def grown(series: str, within: str) -> str:
    """By how much a counter has grown, its first value included: a series begins with its first event.

    A series that was there before a gap of the scrapes is not new, and one that has ended since counts.
    """
    before = f"last_over_time({series}[1h] offset {within}) unless on (instance) segue_build_info offset {within}"
    there = f"({series} offset {within} or ({before}))"
    return f"((increase({series}[{within}]) and {there}) or (last_over_time({series}[{within}]) unless {there}))"


def share(part: str, whole: str) -> str:
    """A share from 0 to 1; no value where the whole is 0."""
    return f"(sum({part}) or vector(0)) / (sum({whole}) > 0)"
