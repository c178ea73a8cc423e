"""The rules of the tables, applied to rows in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from read_model.tables import Column, Row, Table

State = Mapping[Table, Mapping[tuple[str, ...], Row]]
"""Rows in memory, by their table and their key."""


def with_reports(state: State, reports: Iterable[tuple[Table, Row]]) -> State:
    """The state that results from merging reports into `state`, in their order; `state` itself does not change."""
    after = {table: dict(rows) for table, rows in state.items()}
    for table, row in reports:
        rows = after.setdefault(table, {})
        key = tuple(row[name] for name in table.keys)
        rows[key] = merged(table, rows.get(key, {}), row)
    return after


def merged(table: Table, old: Row, new: Row) -> dict[str, Any]:
    """One row of a table from two with the same key, with a value for each column; either row may lack columns.

    `old` is the row that was there first: where a column keeps the first value that is known, it is that of `old`.
    Values that belong to no column of the table stay too, those of `old` first.
    """
    return {**new, **old} | {column.name: _merged(column, old, new) for column in table.columns}


def _merged(column: Column, old: Row, new: Row) -> Any:
    before, after = old.get(column.name), new.get(column.name)
    if column.rule == "latest":
        version, newer = old.get(column.by), new.get(column.by)
        return after if version is None or (newer is not None and newer > version) else before
    if before is None or after is None:
        return after if before is None else before
    match column.rule:
        case "once":
            return before
        case "earliest":
            return min(before, after)
        case "highest":
            return max(before, after)
