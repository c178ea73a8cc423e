"""The rules of the read model's tables as SQL: one statement merges a batch of reports into a table. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from read_model.tables import Column, Row, Table


def arguments(table: Table, rows: Sequence[Row]) -> list[list[Any]]:
    """The arguments of the statement from `upsert` for these reports: one array for each column."""
    keys = [[row[key] for row in rows] for key in table.keys]
    return keys + [[_argument(column, row.get(column.name)) for row in rows] for column in table.columns]


@cache
def upsert(table: Table) -> str:
    """The statement that merges a batch of reports into a table; several of them may have the same key."""
    names = [*table.keys, *table.names]
    # asyncpg would encode an array of JSON lists as a two-dimensional array.
    types = ["text" if column.type == "jsonb" else column.type for column in table.columns]
    arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(["text"] * len(table.keys) + types, 1))
    keys = ", ".join(table.keys)
    # Rows are locked in the order of their keys, so that concurrent writers cannot deadlock.
    return f"""
        INSERT INTO {table.name} AS t ({", ".join(names)})
        SELECT {", ".join([*table.keys, *map(_of_batch, table.columns)])}
        FROM unnest({arrays}) WITH ORDINALITY AS report ({", ".join(names)}, place)
        GROUP BY {keys} ORDER BY {keys}
        ON CONFLICT ({keys}) DO UPDATE SET {", ".join(f"{c.name} = {_merged(c)}" for c in table.columns)}
    """  # noqa: S608 - consists of the read model's names only


def _argument(column: Column, value: Any) -> Any:
    return json.dumps(value) if column.type == "jsonb" and value is not None else value


def _of_batch(column: Column) -> str:
    """The expression for the merged value of the reports in a batch."""
    cast = "::jsonb" if column.type == "jsonb" else ""
    match column.rule:
        case "once":
            return f"(array_agg({column.name} ORDER BY place) FILTER (WHERE {column.name} IS NOT NULL))[1]{cast}"
        case "earliest":
            return f"min({column.name})"
        case "highest":
            return f"max({column.name})"
        case "latest":
            return f"(array_agg({column.name} ORDER BY {column.by} DESC NULLS LAST))[1]{cast}"


def _merged(column: Column) -> str:
    """The expression for the stored value merged with that of the batch."""
    new, old = f"excluded.{column.name}", f"t.{column.name}"
    match column.rule:
        case "once":
            return f"coalesce({old}, {new})"
        case "earliest":
            return f"least({old}, {new})"
        case "highest":
            return f"greatest({old}, {new})"
        case "latest":
            newer = f"t.{column.by} IS NULL OR excluded.{column.by} > t.{column.by}"
            return f"CASE WHEN {newer} THEN {new} ELSE {old} END"
