"""Applies the rules of the tables to rows in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from read_model.tables import Row, Rule, Table

State = Mapping[tuple[Table, str], Row]
"""Rows in memory, by table and key; a key of several columns is their values, joined by slashes."""


def with_reports(state: State, reports: Iterable[tuple[Table, Row]]) -> State:
    """The state that results from merging reports into `state`, in their order; `state` itself does not change.

    Each row has all columns of its table, None where no value was reported. A reported value for which the table has no
    column is added to the row, and the first one is kept.
    """
    after = dict(state)
    ours: dict[tuple[Table, str], dict[str, Any]] = {}
    """The rows that were made here. Those of `state` belong to it, and are copied before they change."""
    for table, report in reports:
        place = table, _key(table, report)
        row = ours.get(place)
        if row is None:
            old = after.get(place)
            row = ours[place] = after[place] = {**_empty(table), **(report if old is None else old)}
            if old is None:
                continue
        _merge(table, row, report)
        if not row.keys() >= report.keys():  # It has values without a column.
            row |= {**report, **row}
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


def _key(table: Table, row: Row) -> str:
    key: str = row[table.keys[0]] if len(table.keys) == 1 else "/".join([row[name] for name in table.keys])
    return key


def _merge(table: Table, row: dict[str, Any], new: Row) -> None:
    rules = _rules(table)
    value_of = new.get
    for name in rules.once:
        if row[name] is None:
            row[name] = value_of(name)
    for name in rules.earliest:
        before, after = row[name], value_of(name)
        if before is None or (after is not None and after < before):
            row[name] = after
    # Before the versions, which are among the highest, change.
    for by, names in rules.latest:
        before, after = row[by], value_of(by)
        if before is None or (after is not None and after > before):
            for name in names:
                row[name] = value_of(name)
    for name in rules.highest:
        before, after = row[name], value_of(name)
        if before is None or (after is not None and after > before):
            row[name] = after


@cache
def _empty(table: Table) -> Row:
    return dict.fromkeys(table.names)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The columns of a table by their rule."""

    once: tuple[str, ...]
    earliest: tuple[str, ...]
    highest: tuple[str, ...]
    latest: tuple[tuple[str, tuple[str, ...]], ...]
    """Each with the column that holds their version first."""


@cache
def _rules(table: Table) -> _Rules:
    def named(rule: Rule, by: str | None = None) -> tuple[str, ...]:
        return tuple(c.name for c in table.columns if c.rule == rule and by in {None, c.by})

    versions = dict.fromkeys(column.by for column in table.columns if column.rule == "latest")
    latest = tuple((by, named("latest", by)) for by in versions)
    return _Rules(named("once"), named("earliest"), named("highest"), latest)
