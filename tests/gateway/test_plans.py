"""Rows that are found by their ids, with plans that were made before there were any."""

from __future__ import annotations

from itertools import count
from typing import Any, Final
from uuid import uuid4

import asyncpg
import pytest

import gateway
import log_sink
from chassis.postgres.pool import ONE_PLAN, migrate, open_pool
from contracts.ids import track_id_for
from gateway.context import TENANT
from gateway.intake.idempotency import Fingerprints, Use
from gateway.queries.database import Database
from gateway.queries.read_model_sql import ReadModel

pytestmark = pytest.mark.asyncio(loop_scope="session")

_USED: Final = "SELECT indexrelname FROM pg_stat_user_indexes WHERE schemaname = 'log_sink' AND idx_scan > 0"
_ALONE: Final = """
SELECT count(*) = 0 FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


async def test_what_is_found_by_an_id_is_found_by_its_index(
    database_url: str, story_of: Any, store_in: Any, until: Any
) -> None:
    await migrate(database_url, "gateway", gateway)
    await migrate(database_url, "log_sink", log_sink)
    story = story_of(str(uuid4()))
    use = Use(TENANT, "a key", "a fingerprint", story.job_id, None)
    # PostgreSQL makes the one plan after five uses of a statement; here it is made at once.
    async with open_pool(database_url, "gateway", max_size=1, planner=ONE_PLAN) as pool:
        reads, fingerprints = ReadModel(Database(pool)), Fingerprints(Database(pool))
        for known in (False, True):
            first = await fingerprints.remember_and_find(use)
            assert first is not None
            found = (
                first.has_job,
                bool(await reads.job(story.job_id, TENANT)),
                await reads.exists(story.job_id, TENANT),
                bool(await reads.track(track_id_for(story.job_id), TENANT)),
                bool(await reads.with_tracks([story.job_id], TENANT)),
                bool(await reads.attempt(story.attempt(1), TENANT)),
                bool(await reads.attempts(TENANT, None, None, 10, ambiguous=False)),
            )
            assert found == (known,) * 7
            await store_in(database_url, [*story.attempts(), *story.jobs()], count())
    owner = await asyncpg.connect(database_url)
    try:
        await until(lambda: owner.fetchval(_ALONE))  # A session hands in its statistics when it ends.
        used = {row["indexrelname"] for row in await owner.fetch(_USED)}
        assert used >= {"jobs_pkey", "tracks_pkey", "attempts_pkey"}
        assert not used & {"jobs_newest", "jobs_open", "tracks_newest"}
    finally:
        await owner.close()
