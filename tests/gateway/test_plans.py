"""Rows that are found by their ids, with plans that were made before there were any."""

from __future__ import annotations

from itertools import count
from typing import Any
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

_OF_LISTS = """
SELECT indexrelname FROM pg_stat_user_indexes
WHERE indexrelname IN ('jobs_newest', 'jobs_open', 'tracks_newest', 'attempts_newest') AND idx_scan > 0
"""


async def test_no_lookup_by_an_id_reads_the_index_of_a_list(database_url: str, story_of: Any, store_in: Any) -> None:
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
                bool(await reads.track(track_id_for(story.job_id), TENANT)),
                bool(await reads.with_tracks([story.job_id], TENANT)),
                bool(await reads.attempt(story.attempt(1), TENANT)),
            )
            assert found == (known,) * 5
            await store_in(database_url, [*story.attempts(), *story.jobs()], count())
    owner = await asyncpg.connect(database_url)
    try:
        assert [row["indexrelname"] for row in await owner.fetch(_OF_LISTS)] == []
    finally:
        await owner.close()
