"""What Postgres knows of the providers: each adapter's gates and load, and how attempts ended, from the log-sink."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from contracts.generation import PROVIDERS, Provider
from contracts.topics import adapter_of
from gateway.queries.database import NOT_MADE, Database

WINDOW_S: Final = 900.0

_HEALTH = "SELECT * FROM {schema}.v_health"
_PROBE = "SELECT * FROM {schema}.v_free_probe"
_GATES = "SELECT * FROM {schema}.v_gates ORDER BY scope"
_LOAD = "SELECT * FROM {schema}.v_load"
_CALLBACKS = "SELECT * FROM {schema}.v_callbacks"
_ENDS = """
SELECT provider, endpoint, state, error_kind, count(*) AS attempts FROM log_sink.v_attempts
WHERE finished_at > now() - make_interval(secs => $1) GROUP BY provider, endpoint, state, error_kind
"""
_PACE = """
SELECT provider, endpoint, percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
    ORDER BY extract(epoch FROM finished_at - submitted_at)::float8
) AS seconds
FROM log_sink.v_attempts
WHERE finished_at > now() - make_interval(secs => $1) AND state = 'succeeded' AND submitted_at IS NOT NULL
GROUP BY GROUPING SETS ((provider), (provider, endpoint))
"""

Rows = Sequence[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Told:
    """What one adapter tells of its provider; nothing, where it has not been started yet."""

    health: Rows
    probe: Rows
    gates: Rows
    load: Rows
    callbacks: Rows


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is known of the providers at one time."""

    as_of: datetime
    told: Mapping[Provider, Told]
    ends: Rows
    """How many attempts ended, by provider, endpoint, state and kind of failure."""
    pace: Rows
    """Two seconds' values each, p50 and p95: by provider, and by provider and endpoint."""


async def read_providers(database: Database) -> Seen:
    """All there is to know. Raises what the database does, TimeoutError among it, while that is away."""
    async with database.asked() as lease:
        as_of: datetime = await lease.connection.fetchval("SELECT now()")
    (ends, pace), *told = await asyncio.gather(
        _read(database, (_ENDS, WINDOW_S), (_PACE, WINDOW_S)), *(_told(database, provider) for provider in PROVIDERS)
    )
    return Seen(as_of, {provider: Told(*rows) for provider, rows in zip(PROVIDERS, told, strict=True)}, ends, pace)


async def _told(database: Database, provider: Provider) -> list[Rows]:
    # The schema's name comes from the map.
    schema = adapter_of(provider).replace("-", "_")
    questions = (_HEALTH, _PROBE, _GATES, _LOAD, _CALLBACKS)
    return await _read(database, *((sql.format(schema=schema),) for sql in questions))


async def _read(database: Database, *questions: tuple[object, ...]) -> list[Rows]:
    """The answers of one moment, in order; all are empty where the views are not there."""
    try:
        async with database.asked() as lease, lease.transaction(isolation="repeatable_read", readonly=True):
            return [await lease.connection.fetch(str(sql), *values) for sql, *values in questions]
    except NOT_MADE:
        return [[] for _ in questions]
