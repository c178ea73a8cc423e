"""Applies the rules of the tables to rows in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from read_model.tables import Row, Table

State = Mapping[tuple[Table, str], Row]
"""Rows in memory, by table and key; a key of several columns is their values, joined by slashes."""


def with_reports(state: State, reports: Iterable[tuple[Table, Row]]) -> State:
    """The state that results from merging reports into `state`, in their order; `state` itself does not change.

    Each row has all columns of its table, None where no value was reported. A reported value for which the table has no
    column is added to the row, and the first one is kept.
    """
    after = dict(state)
    for table, row in reports:
        place = table, "/".join([row[name] for name in table.keys])
        old = after.get(place)
        after[place] = dict.fromkeys(table.names) | dict(row) if old is None else _merged(table, old, row)
    return after


def joined(old: State, new: State) -> State:
    """The state that results from merging the rows of `new` into `old`."""
    return with_reports(old, ((table, row) for (table, _), row in new.items()))


def rows_of(state: State, table: Table) -> dict[str, Row]:
    """The rows of one table by their keys, in the order in which they were first reported."""
    return {key: row for (of, key), row in state.items() if of is table}


def row_of(state: State, table: Table) -> Row | None:
    """The row of a table that was reported first; None if there is none."""
    return next((row for (of, _), row in state.items() if of is table), None)


def _merged(table: Table, old: Row, new: Row) -> Row:
    row = {**new, **old}
    for column in table.columns:
        before, after = old[column.name], new.get(column.name)
        if column.rule == "latest":
            version, newer = old[column.by], new.get(column.by)
            if version is None or (newer is not None and newer > version):
                row[column.name] = after
        elif after is not None:
            row[column.name] = after if before is None else _merged_value(column.rule, before, after)
    return row


def _merged_value(rule: Literal["once", "earliest", "highest"], before: Any, after: Any) -> Any:
    match rule:
        case "once":
            return before
        case "earliest":
            return min(before, after)
        case "highest":
            return max(before, after)
