"""Applies the rules of the tables to rows in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from read_model.tables import Row, Rule, Table

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
        after[place] = {**_empty(table), **row} if old is None else _merged(table, old, row)
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
    for name in _named(table, "once"):
        if old[name] is None:
            row[name] = new.get(name)
    for name in _named(table, "earliest"):
        before, after = old[name], new.get(name)
        if before is None or (after is not None and after < before):
            row[name] = after
    for name in _named(table, "highest"):
        before, after = old[name], new.get(name)
        if before is None or (after is not None and after > before):
            row[name] = after
    for by, names in _latest(table).items():
        before, after = old[by], new.get(by)
        if before is None or (after is not None and after > before):
            for name in names:
                row[name] = new.get(name)
    return row


@cache
def _empty(table: Table) -> Row:
    return dict.fromkeys(table.names)


@cache
def _named(table: Table, rule: Rule) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns if column.rule == rule)


@cache
def _latest(table: Table) -> Mapping[str, Sequence[str]]:
    """The columns with the rule `latest`, by the column that holds their version."""
    columns = [column for column in table.columns if column.rule == "latest"]
    return {by: [column.name for column in columns if column.by == by] for by in {column.by for column in columns}}
