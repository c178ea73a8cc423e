"""The rows of the table `outbox`: the messages of committed transactions, until Kafka has confirmed them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from chassis.postgres.pool import Connection
from contracts.envelope import Record

# Not now(), which is the beginning of the transaction: after a slow one, another replica would relay the row at once.
_INSERT = """
INSERT INTO outbox (topic, key, value, headers, event_id, created_at)
SELECT *, clock_timestamp() FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::jsonb[], $5::uuid[])
ON CONFLICT (event_id) DO NOTHING RETURNING id, event_id
"""
# A row that another replica has taken for left behind is deleted by that one, or published once more.
_DELETE = """
DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE id = ANY($1::bigint[]) FOR UPDATE SKIP LOCKED)
"""
_PARK = "UPDATE outbox SET created_at = 'infinity' WHERE id = ANY($1::bigint[])"
_LEFT_BEHIND = f"""
WITH published AS ({_DELETE})
SELECT id, topic, key, value, headers FROM outbox
WHERE created_at < now() - make_interval(secs => $2) AND id <> ALL($3::bigint[]) AND topic <> ALL($5::text[])
ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - the only value in it is a constant


async def insert(
    connection: Connection, records: Sequence[Record], event_ids: Sequence[UUID]
) -> list[tuple[int, UUID]]:
    """Insert the records; returns the ids of the rows, without those of events that wait already."""
    inserted = await connection.fetch(
        _INSERT,
        [record.topic for record in records],
        [record.key for record in records],
        [record.value for record in records],
        [{name: value.decode() for name, value in record.headers} for record in records],
        event_ids,
    )
    return [(row["id"], row["event_id"]) for row in inserted]


async def delete(connection: Connection, ids: Sequence[int]) -> None:
    """Delete rows that have been published."""
    await connection.execute(_DELETE, ids)


async def park(connection: Connection, ids: Sequence[int]) -> None:
    """Keep rows for inspection, which are never published."""
    await connection.execute(_PARK, ids)


async def left_behind(
    connection: Connection,
    age_s: float,
    in_flight: Sequence[int],
    limit: int,
    missed: Sequence[str],
    *,
    published: Sequence[int],
) -> list[tuple[int, Record]]:
    """Delete the rows `published`, which are in flight, and lock up to `limit` rows older than `age_s` seconds.

    Those in flight, those of the topics `missed`, and those that another replica has locked are left out.
    """
    found = await connection.fetch(_LEFT_BEHIND, published, age_s, in_flight, limit, missed)
    return [(row["id"], _record(row)) for row in found]


def _record(row: asyncpg.Record) -> Record:
    headers = tuple((name, value.encode()) for name, value in row["headers"].items())
    return Record(row["topic"], row["key"], row["value"], headers)
