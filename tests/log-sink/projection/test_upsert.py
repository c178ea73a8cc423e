"""Merging reports in memory first, and each report into the tables by SQL, make the same rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.postgres.pool import Pool
from log_sink.projection.upsert import arguments, upsert
from read_model.merge import State, rows_of, with_reports
from read_model.tables import STATE, TRACKS, Row, Table

pytestmark = pytest.mark.asyncio(loop_scope="session")

VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "text": st.sampled_from(["", "a", "b", "B"]),
    "integer": st.integers(-1, 2),
    "bigint": st.integers(-1, 2),
    "float8": st.sampled_from([0.0, 0.5, 2.0]),
    "boolean": st.booleans(),
    "jsonb": st.sampled_from([[], {}, [1], {"a": [None]}]),
    "timestamptz": st.sampled_from([datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3)]),
}
NEEDED: Final = """
SELECT attrelid::regclass::text AS name, array_agg(attname::text) AS columns FROM pg_attribute
WHERE attnotnull AND attnum > 0 AND attrelid = ANY($1::text[]::regclass[]) GROUP BY 1
"""


def reports_about(table: Table, needed: set[str]) -> st.SearchStrategy[Row]:
    """Reports with any values of any columns, of which the database needs some."""
    keys = dict.fromkeys(table.keys, st.sampled_from(["one", "two"]))
    values = {column.name: VALUES[column.type] for column in table.columns}
    return st.fixed_dictionaries(
        keys | {name: each for name, each in values.items() if name in needed},
        optional={name: each | st.none() for name, each in values.items() if name not in needed},
    )


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
@pytest.mark.parametrize("table", STATE, ids=lambda table: table.name)
async def test_the_merge_in_memory_is_that_of_the_statement_row_by_row(
    pool: Pool, table: Table, data: st.DataObject
) -> None:
    needed = await pool.fetch(NEEDED, [table.name])
    reported = data.draw(st.lists(reports_about(table, set(needed[0]["columns"])), max_size=8))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reported)), max_size=3)))
    batches = [reported[a:b] for a, b in zip([0, *cuts], [*cuts, len(reported)], strict=True)]

    async def stored(batches: list[list[Row]]) -> dict[str, Row]:
        await pool.execute(f"TRUNCATE {table.name}")
        for batch in batches:
            await pool.execute(upsert(table), *arguments(table, merged(batch).values()))
        rows = await pool.fetch(f"SELECT {', '.join([*table.keys, *table.names])} FROM {table.name}")  # noqa: S608
        return {"/".join(row[key] for key in table.keys): dict(row) for row in rows}

    def merged(batch: list[Row]) -> dict[str, Row]:
        state: State = {}
        return rows_of(with_reports(state, [(table, row) for row in batch]), table)

    row_by_row = await stored([[row] for row in reported])
    assert merged(reported) == row_by_row
    assert await stored(batches) == row_by_row


async def test_a_merge_changes_neither_the_state_nor_the_reports_that_it_is_given() -> None:
    first: Row = {"track_id": "one", "version": 1, "status": "queued", "late": False}
    then: Row = {"track_id": "one", "version": 2, "status": "running", "late": True, "expired_at": None}
    before = with_reports({}, [(TRACKS, first)])
    kept, reported = {place: dict(row) for place, row in before.items()}, dict(then)

    after = with_reports(before, [(TRACKS, then), (TRACKS, {**then, "version": 3, "status": "succeeded"})])

    assert (before, then) == (kept, reported)
    row = after[TRACKS, "one"]
    # What has no column is kept from the first report of it.
    assert (row["version"], row["status"], row["late"], "expired_at" in row) == (3, "succeeded", False, True)
    assert (first, with_reports(after, [])) == (
        {"track_id": "one", "version": 1, "status": "queued", "late": False},
        after,
    )
