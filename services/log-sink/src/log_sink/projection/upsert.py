"""The rules of the read model's tables as SQL: one statement merges rows into a table. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from read_model.tables import Column, Row, Table


def arguments(table: Table, rows: Iterable[Row]) -> list[list[Any]]:
    """The arguments of the statement from `upsert` for these rows: one array for each column."""
    # Rows are locked in the order of their keys, so that concurrent writers cannot deadlock.
    ordered = sorted(rows, key=lambda row: [row[key] for key in table.keys])
    keys = [[row[key] for row in ordered] for key in table.keys]
    return keys + [[_argument(column, row[column.name]) for row in ordered] for column in table.columns]


@cache
def upsert(table: Table) -> str:
    """The statement that merges rows with different keys, each with all columns of the table, into the table."""
    names = [*table.keys, *table.names]
    # asyncpg would encode an array of JSON lists as a two-dimensional array.
    types = ["text" if column.type == "jsonb" else column.type for column in table.columns]
    arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(["text"] * len(table.keys) + types, 1))
    values = [f"{c.name}::jsonb" if c.type == "jsonb" else c.name for c in table.columns]
    return f"""
        INSERT INTO {table.name} AS t ({", ".join(names)})
        SELECT {", ".join([*table.keys, *values])} FROM unnest({arrays}) AS merged ({", ".join(names)})
        ON CONFLICT ({", ".join(table.keys)}) DO UPDATE SET
        {", ".join(f"{column.name} = {_merged(column)}" for column in table.columns)}
    """  # noqa: S608 - consists of the read model's names only


def _argument(column: Column, value: Any) -> Any:
    return json.dumps(value) if column.type == "jsonb" and value is not None else value


def _merged(column: Column) -> str:
    """The expression for the stored value merged with the new one."""
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
