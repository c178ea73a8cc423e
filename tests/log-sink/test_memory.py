"""The memory that the sink uses does not grow with the events that it stores."""

from __future__ import annotations

import gc
import itertools
from pathlib import Path
from typing import Any

import pytest

from chassis.postgres.pool import Pool
from log_sink.store import Store

pytestmark = pytest.mark.asyncio(loop_scope="session")

BATCH = 500
MIB = 1024 * 1024


def resident() -> int:
    """The resident memory of this process now, in bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def logs_from_zero(places: Any) -> dict[Any, int]:
    return dict.fromkeys(places, 0)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
async def test_stored_events_are_not_kept_in_memory(pool: Pool, store: Store, deliver: Any, story_of: Any) -> None:
    messages = (message for n in itertools.count() for message in story_of(f"job {n}").messages())

    async def take(batches: int) -> None:
        for _batch in range(batches):
            batch = [deliver(message) for message in itertools.islice(messages, BATCH)]
            await store.store(batch)
            await store.note_read([delivered.record for delivered in batch], logs_from_zero)

    await take(4)
    before = resident()
    await take(12)

    # 6,000 events are about 20 MiB of Python objects.
    assert resident() - before < 6 * MIB
    assert await pool.fetchval("SELECT count(*) FROM events") == 16 * BATCH
