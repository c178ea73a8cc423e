"""The plans of lookups by an id, made before there are rows: PostgreSQL keeps such a plan until a table is analyzed."""

from __future__ import annotations

import re

import pytest

import gateway
import log_sink
from chassis.postgres.pool import ONE_PLAN, migrate, open_pool
from gateway.intake import idempotency
from gateway.queries import read_model_sql

LOOKUPS = {
    "a job": (read_model_sql._ONE_JOB, "jobs"),
    "jobs": (read_model_sql._THESE_JOBS, "jobs"),
    "which jobs exist": (read_model_sql._EXISTING, "jobs"),
    "a key and its job": (idempotency._REMEMBER_AND_FIND, "jobs"),
    "a track": (read_model_sql._ONE_TRACK, "tracks"),
    "tracks": (read_model_sql._THESE_TRACKS, "tracks"),
    "an attempt": (read_model_sql._ONE_ATTEMPT, "attempts"),
    "an attempt's job": (read_model_sql._ONE_ATTEMPT, "jobs"),
}


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(("statement", "table"), LOOKUPS.values(), ids=LOOKUPS)
async def test_a_row_is_found_by_the_index_of_its_id(database_url: str, statement: str, table: str) -> None:
    await migrate(database_url, "gateway", gateway)
    await migrate(database_url, "log_sink", log_sink)
    parameters = max(int(n) for n in re.findall(r"\$(\d+)", statement))
    async with open_pool(database_url, "gateway", max_size=1, planner=ONE_PLAN) as pool, pool.acquire() as connection:
        await connection.execute(f"PREPARE looking AS {statement}")
        lines = await connection.fetch(f"EXPLAIN EXECUTE looking ({', '.join(['NULL'] * parameters)})")
    plan = "\n".join(line[0] for line in lines)
    assert f"Scan using {table}_pkey" in plan or f"Index Scan on {table}_pkey" in plan
    assert not re.search(rf"_newest|_open|Seq Scan on {table}", plan)
