"""Panels as values, and what Grafana's JSON says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from boards.queries import Json, Query

GREEN: Final = "green"
YELLOW: Final = "#EAB839"
ORANGE: Final = "orange"
RED: Final = "red"
BLUE: Final = "blue"
GREY: Final = "#8e8e8e"

STATUS: Final = {
    "queued": BLUE,
    "running": YELLOW,
    "succeeded": GREEN,
    "failed": RED,
    "cancelled": GREY,
    "submitting": "light-blue",
    "collecting": "light-green",
    "cancelling": "light-orange",
    "ambiguous": "purple",
}
"""The colour of each state of jobs and attempts, the same everywhere."""

QUANTILES: Final = {"p50": GREEN, "p95": ORANGE, "p99": RED}

Steps = Sequence[tuple[float | None, str]]
"""Thresholds: each colour from its value on; the first from None."""
PLAIN: Final[Steps] = ((None, "text"),)
NONE_IS_GOOD: Final[Steps] = ((None, GREEN), (1e-9, RED))
NONE_IS_CALM: Final[Steps] = ((None, GREEN), (1e-9, ORANGE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel: what it asks, what it says, and how wide it is in 24ths of the page."""

    type: Literal["stat", "timeseries", "table"]
    title: str
    says: str
    """The description, which a reader sees at the title."""
    queries: Sequence[Query]
    width: int
    height: int
    defaults: Mapping[str, Any]
    overrides: Sequence[Json]
    options: Mapping[str, Any]
    transformations: Sequence[Json] = ()

    def model(self, number: int, x: int, y: int) -> Json:
        """Its JSON at a place of the page."""
        targets = [query.target(chr(ord("A") + at), self.type) for at, query in enumerate(self.queries)]
        return {
            "id": number,
            "type": self.type,
            "title": self.title,
            "description": self.says,
            "datasource": targets[0]["datasource"],
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": targets,
            "fieldConfig": {"defaults": dict(self.defaults), "overrides": list(self.overrides)},
            "options": dict(self.options),
            "transformations": list(self.transformations),
        }


def stat(
    title: str,
    says: str,
    *queries: Query,
    unit: str = "short",
    steps: Steps = PLAIN,
    none: str = "0",
    decimals: int | None = None,
    words: Mapping[int, tuple[str, str]] | None = None,
    named: bool = False,
    graph: bool = False,
    width: int = 4,
    height: int = 4,
) -> Panel:
    """One number, or one for each series. `none` is shown where there is no value; `words` says a value in words."""
    return Panel(
        type="stat",
        title=title,
        says=says,
        queries=queries,
        width=width,
        height=height,
        defaults=_defaults(unit, none, decimals, words, steps=steps),
        overrides=(),
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background" if words else "value",
            "graphMode": "area" if graph else "none",
            "textMode": "value_and_name" if named else "value",
            "justifyMode": "center",
            "orientation": "auto",
            "wideLayout": False,
            "showPercentChange": False,
        },
    )


def graph(
    title: str,
    says: str,
    *queries: Query,
    unit: str = "short",
    none: str = "No data",
    stacked: bool = False,
    bars: bool = False,
    steps: bool = False,
    decimals: int | None = None,
    most: float | None = None,
    signed: bool = False,
    colours: Mapping[str, str] | None = None,
    words: Mapping[int, tuple[str, str]] | None = None,
    calcs: Sequence[str] = ("lastNotNull", "max"),
    width: int = 8,
    height: int = 9,
) -> Panel:
    """Values over time. `steps` joins them by steps, `most` is the top of the axis, `signed` values may be below 0."""
    custom: dict[str, Any] = {
        "drawStyle": "bars" if bars else "line",
        "lineInterpolation": "stepAfter" if steps else "linear",
        "lineWidth": 1,
        "fillOpacity": 70 if bars else 25 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "axisSoftMin": 0,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off"},
    }
    if decimals == 0 or unit == "s":
        custom["axisSoftMax"] = 1  # Else the axis goes up to 100 where every value is 0.
    if signed:
        custom["axisSoftMin"] = -1
    ends = ({} if signed else {"min": 0}) | ({} if most is None else {"max": most})
    return Panel(
        type="timeseries",
        title=title,
        says=says,
        queries=queries,
        width=width,
        height=height,
        defaults=_defaults(unit, none, decimals, words, steps=None) | ends | {"custom": custom},
        overrides=[_coloured(name, colour) for name, colour in (colours or {}).items()],
        options={
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": list(calcs)},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table, by the name that the query gives it."""

    name: str
    shown: str = ""
    """The heading; empty: the name."""
    unit: str = ""
    width: int = 0
    """In pixels; 0: what is left."""
    decimals: int | None = None
    link: tuple[str, str] | None = None
    """The title and the address of what a click leads to."""
    colours: Mapping[str, str] = field(default_factory=dict)
    """The colour of each value."""
    words: Mapping[int, tuple[str, str]] | None = None
    """A value's text and colour."""

    def override(self) -> Json:
        """What Grafana's JSON says of it."""
        set_to: dict[str, Any] = {}
        if self.shown:
            set_to["displayName"] = self.shown
        if self.unit:
            set_to["unit"] = self.unit
        if self.width:
            set_to["custom.width"] = self.width
        if self.decimals is not None:
            set_to["decimals"] = self.decimals
        if self.link:
            set_to["links"] = [{"title": self.link[0], "url": self.link[1], "targetBlank": False}]
        if self.colours:
            options = {value: {"color": colour, "index": at} for at, (value, colour) in enumerate(self.colours.items())}
            set_to["mappings"] = [{"type": "value", "options": options}]
        if self.words:
            set_to["mappings"] = _mappings(self.words)
        if self.colours or self.words:
            set_to["custom.cellOptions"] = {"type": "color-text"}
        properties = [{"id": name, "value": value} for name, value in set_to.items()]
        return {"matcher": {"id": "byName", "options": self.name}, "properties": properties}


def table(
    title: str,
    says: str,
    *queries: Query,
    columns: Sequence[Column] = (),
    hidden: Sequence[str] = (),
    sort: tuple[str, bool] | None = None,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Rows. `sort` is a column as it is shown, and whether the largest comes first.

    A text for no rows cannot be set: Grafana writes it into every empty cell.
    """
    renamed = {column.name: column.shown for column in columns if column.shown}
    order = {column.name: at for at, column in enumerate(columns)}
    organize = {"excludeByName": dict.fromkeys(hidden, True), "indexByName": order, "renameByName": {}}
    return Panel(
        type="table",
        title=title,
        says=says,
        queries=queries,
        width=width,
        height=height,
        defaults={
            "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": False},
            "color": {"mode": "thresholds"},
            "thresholds": _thresholds(PLAIN),
        },
        overrides=[column.override() for column in columns],
        options={
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": renamed.get(sort[0], sort[0]), "desc": sort[1]}] if sort else [],
        },
        transformations=[{"id": "organize", "options": organize}] if hidden else [],
    )


def _defaults(
    unit: str,
    none: str,
    decimals: int | None,
    words: Mapping[int, tuple[str, str]] | None,
    *,
    steps: Steps | None,
) -> dict[str, Any]:
    """What stats and graphs have in common; graphs, without steps, colour one series after the other."""
    found: dict[str, Any] = {
        "unit": unit,
        "noValue": none,
        "mappings": _mappings(words or {}),
        "color": {"mode": "thresholds" if steps else "palette-classic"},
        "thresholds": _thresholds(steps or PLAIN),
    }
    return found if decimals is None else found | {"decimals": decimals}


def _thresholds(steps: Steps) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


def _mappings(words: Mapping[int, tuple[str, str]]) -> list[Json]:
    if not words:
        return []
    options = {
        str(value): {"text": text, "color": colour, "index": at}
        for at, (value, (text, colour)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


def _coloured(name: str, colour: str) -> Json:
    fixed = {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}
    return {"matcher": {"id": "byName", "options": name}, "properties": [fixed]}
