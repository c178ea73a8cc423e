"""The first statement of a transaction, which tells the time of the transaction as well: that saves a round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from chassis.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class Opening:
    """A statement that returns at least one row, each with the column `now`, which is `now()`."""

    statement: str
    arguments: tuple[object, ...]


async def opened(connection: Connection, opening: Opening | None) -> tuple[datetime, Sequence[asyncpg.Record]]:
    """The time of the transaction that has just begun, and the rows of its opening; no rows if it has none."""
    if opening is None:
        return await connection.fetchval("SELECT now()"), ()
    rows = await connection.fetch(opening.statement, *opening.arguments)
    return rows[0]["now"], rows
