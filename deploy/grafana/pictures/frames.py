"""The answers of Prometheus and PostgreSQL as data frames, in the form that Grafana's panels take."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import asyncpg
import httpx

from boards.queries import Json
from pictures.macros import Shown

_EXEMPLARS: Final = 20


async def of_prometheus(client: httpx.AsyncClient, target: Json, shown: Shown) -> list[Json]:
    """The frames of a query in PromQL. Raises httpx.HTTPStatusError with what Prometheus says."""
    expr = shown.promql(target["expr"])
    if target["instant"]:
        found = await _ask(client, "query", query=expr, time=shown.until.timestamp())
        series = [(each["metric"], [each["value"]]) for each in found]
    else:
        ends = {"start": shown.since.timestamp(), "end": shown.until.timestamp(), "step": shown.step_s}
        found = await _ask(client, "query_range", query=expr, **ends)
        series = [(each["metric"], each["values"]) for each in found]
    if target["format"] == "table":
        return [_table(target["refId"], series)] if series else []
    return [_series(target, labels, values) for labels, values in series]


async def exemplars(client: httpx.AsyncClient, target: Json, shown: Shown) -> int:
    """How many exemplars there are for a query."""
    ends = {"start": shown.since.timestamp(), "end": shown.until.timestamp()}
    found = await _ask(client, "query_exemplars", query=shown.promql(target["expr"]), **ends)
    return sum(len(each["exemplars"]) for each in found)


async def of_postgres(connection: asyncpg.Connection[asyncpg.Record], target: Json, shown: Shown) -> list[Json]:
    """The frames of a query in SQL."""
    rows = await connection.fetch(shown.sql(target["rawSql"]))
    if not rows:
        return []
    if target["format"] == "time_series":
        return [_wide(target["refId"], rows)]
    return [
        {"refId": target["refId"], "fields": [_column(name, [row[name] for row in rows]) for name in dict(rows[0])]}
    ]


async def _ask(client: httpx.AsyncClient, what: str, **given: Any) -> list[Any]:
    answer = await client.post(f"/api/v1/{what}", data=given)
    if answer.is_error:
        raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
    data: Any = answer.json()["data"]
    found: list[Any] = data if isinstance(data, list) else data["result"]
    return found


def _series(target: Json, labels: Mapping[str, str], values: Sequence[tuple[float, str]]) -> Json:
    legend = target["legendFormat"]
    if legend == "__auto":
        name = ", ".join(f"{label}={value}" for label, value in labels.items() if label != "__name__") or "Value"
    else:
        name = re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)
    value = {"name": "Value", "type": "number", "labels": dict(labels), "config": {"displayNameFromDS": name}}
    return {
        "refId": target["refId"],
        "fields": [_times([at for at, _ in values]), value | {"values": [_number(one) for _, one in values]}],
    }


def _table(ref: str, series: Sequence[tuple[Mapping[str, str], Sequence[tuple[float, str]]]]) -> Json:
    names = sorted({label for labels, _ in series for label in labels})
    columns = [_column(name, [labels.get(name, "") for labels, _ in series]) for name in names]
    last = [values[-1] for _, values in series]
    value = {"name": "Value", "type": "number", "config": {}, "values": [_number(one) for _, one in last]}
    return {"refId": ref, "fields": [_times([at for at, _ in last]), *columns, value]}


def _wide(ref: str, rows: Sequence[asyncpg.Record]) -> Json:
    """Rows of time, metric and value as one column for each metric."""
    [value] = [name for name in dict(rows[0]) if name not in ("time", "metric")]
    times = sorted({float(row["time"]) for row in rows})
    fields = [_times(times)]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        at = {float(row["time"]): float(row[value]) for row in rows if row["metric"] == metric}
        values = [at.get(time) for time in times]
        fields.append({"name": metric, "type": "number", "config": {}, "values": values})
    return {"refId": ref, "fields": fields}


def _times(seconds: Sequence[float]) -> Json:
    return {"name": "Time", "type": "time", "config": {}, "values": [round(float(at) * 1000) for at in seconds]}


def _column(name: str, values: Sequence[Any]) -> Json:
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {datetime}:
        times = [None if value is None else round(value.timestamp() * 1000) for value in values]
        return {"name": name, "type": "time", "config": {}, "values": times}
    if kinds == {bool}:
        return {"name": name, "type": "boolean", "config": {}, "values": list(values)}
    if kinds and kinds <= {int, float, Decimal}:
        numbers = [None if value is None else float(value) for value in values]
        return {"name": name, "type": "number", "config": {}, "values": numbers}
    texts = [None if value is None else str(value) for value in values]
    return {"name": name, "type": "string", "config": {}, "values": texts}


def _number(text: str) -> float | None:
    value = float(text)
    return value if value == value and abs(value) != float("inf") else None
