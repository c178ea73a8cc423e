"""Gauges that are read from PostgreSQL: one statement for each service, every 15 seconds, beside its work.

A service lists what it shows as queries of one value each; they become the columns of one statement, so that all values
are of one moment. Every replica reads the same tables and shows the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from chassis.observability.log_events import PostgresEvent
from chassis.observability.logs import get_logger
from chassis.observability.metrics import DUE_OLDEST, OUTBOX_OLDEST, OUTBOX_ROWS
from chassis.postgres.limits import LOOP_LIMIT_S, bounded
from chassis.postgres.pool import Pool
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime

EVERY_S: Final = 15.0

# A row that is too large for Kafka is kept with an infinite time; its age has no meaning.
_OUTBOX: Final = """
SELECT jsonb_build_array(count(*),
    extract(epoch FROM now() - min(created_at) FILTER (WHERE created_at < 'infinity'))) FROM outbox
"""
_DUE: Final = "SELECT extract(epoch FROM now() - min(next_action_at))::float8 FROM {table}"


@dataclass(frozen=True, slots=True)
class GaugeQuery:
    """A query in the service's own schema, and what sets gauges from its value."""

    sql: str
    """A SELECT of one row with one column; several values are one JSON value."""
    apply: Callable[[Any], None]
    """Called with the value: a JSON value is decoded, and NULL is None."""


class PolledGauges:
    """The gauges of a service that are read from its tables."""

    def __init__(self, pool: Pool, runtime: Runtime, *queries: GaugeQuery) -> None:
        self._pool = pool
        self._runtime = runtime
        self._queries = queries
        self._statement = "SELECT " + ", ".join(f"({query.sql})" for query in queries)
        self._log = get_logger("chassis.postgres.polled_gauges")

    def running(self) -> AbstractAsyncContextManager[None]:
        """Read for as long as the block lasts. While the database cannot be read, the gauges stay as they are."""
        return background(self._runtime, "the gauges", self._run())

    async def read(self) -> None:
        """Read all values now and set the gauges. Raises the errors of the database."""
        async with bounded(self._pool, LOOP_LIMIT_S) as connection:
            row = await connection.fetchrow(self._statement)
        if row is not None:
            for query, value in zip(self._queries, row, strict=True):
                query.apply(value)

    async def _run(self) -> None:
        while True:
            try:
                await self.read()
            except Exception as error:  # noqa: BLE001 - what is only shown must not end the service
                self._log.warning(PostgresEvent.GAUGES_NOT_READ, error=repr(error))
            if not await self._runtime.pause(EVERY_S):
                return


def _show_outbox(value: tuple[int, float | None]) -> None:
    rows, oldest_s = value
    OUTBOX_ROWS.set(rows)
    OUTBOX_OLDEST.set(max(0.0, oldest_s or 0.0))


def _show_due(oldest_s: float | None) -> None:
    DUE_OLDEST.set(max(0.0, oldest_s or 0.0))


OUTBOX_GAUGES: Final = GaugeQuery(_OUTBOX, _show_outbox)
"""The number of rows in the service's outbox, and the age of the oldest."""


def due_gauge(table: str) -> GaugeQuery:
    """For how long the row of `table` has been due that is due longest; its column is `next_action_at`."""
    return GaugeQuery(_DUE.format(table=table), _show_due)
