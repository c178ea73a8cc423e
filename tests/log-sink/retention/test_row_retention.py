"""Old months of the log are dropped; the state tables stay, and no later replay changes a stored end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool
from chassis.postgres.retention import RetentionWorker
from chassis.runtime.runtime import Runtime
from contracts.failures import FailureKind
from contracts.messages.attempts import AttemptFailed
from contracts.messages.jobs import JobFailed
from log_sink.retention.partitions import ensure_partitions
from log_sink.retention.rows import log_tasks, over
from log_sink.store import Store

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEEP = timedelta(days=90)
STATE = ("jobs", "tracks", "attempts", "artifacts")


async def purge(pool: Pool, keep: timedelta = KEEP) -> dict[str, int]:
    worker = RetentionWorker(pool, Runtime("log-sink", make_telemetry("x", None)), "log_sink", log_tasks(keep))
    done = await worker.once()
    assert done is not None
    return done


async def count(pool: Pool, table: str) -> int:
    return int(await pool.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608 - our own names


async def state(pool: Pool) -> list[list[tuple[Any, ...]]]:
    questions = [f"SELECT * FROM {table} ORDER BY 1, 2" for table in STATE]  # noqa: S608 - our own names
    return [[tuple(row) for row in await pool.fetch(question)] for question in questions]


async def test_a_month_is_dropped_once_it_is_completely_over(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    now = await pool.fetchval("SELECT now()")
    batch = [deliver(message) for message in story.messages()]
    await ensure_partitions(pool, batch[0].message.occurred_at)
    made = await ensure_partitions(pool, now)
    await store.store(batch)
    before = await state(pool)
    assert await count(pool, "events_2026_03") == len(batch)

    done = await purge(pool)
    assert done["months_of_events"] >= 1
    assert await pool.fetchval("SELECT to_regclass('events_2026_03')") is None
    assert all([await pool.fetchval("SELECT to_regclass($1)", name) for name in made])
    assert await count(pool, "events") == 0
    assert await state(pool) == before
    assert (await purge(pool))["months_of_events"] == 0
    assert await ensure_partitions(pool, now) == []


@pytest.mark.parametrize(
    ("now", "keep_days", "gone"),
    [
        (datetime(2026, 7, 1, tzinfo=UTC), 30, ["events_2026_04", "events_2026_05"]),
        (datetime(2026, 7, 31, tzinfo=UTC), 60, ["events_2026_04", "events_2026_05"]),
        (datetime(2026, 7, 30, tzinfo=UTC), 60, ["events_2026_04"]),
        (datetime(2026, 7, 31, tzinfo=UTC), 8, ["events_2026_04", "events_2026_05"]),
        (datetime(2026, 7, 31, tzinfo=UTC), 365, []),
    ],
)
async def test_a_month_that_would_be_created_again_stays(now: datetime, keep_days: float, gone: list[str]) -> None:
    partitions = [*(f"events_2026_{month:02}" for month in range(4, 10)), "events_default", "events_other"]
    months = over(partitions, now, timedelta(days=keep_days))
    assert [f"events_{month:%Y_%m}" for month in months] == gone


async def test_old_rows_of_the_default_partition_and_the_quarantine_are_deleted(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    batch = [deliver(message) for message in story.messages()]
    await store.store(batch)
    assert await count(pool, "events_default") == len(batch)
    assert (await purge(pool))["events"] == 0, "they have just been stored"
    await pool.execute("UPDATE events_default SET stored_at = now() - interval '91 days' WHERE topic <> 'segue.jobs'")
    await pool.execute(
        """
        INSERT INTO quarantine (topic, kafka_partition, kafka_offset, value, headers, error, quarantined_at)
        SELECT 'segue.jobs', 0, n, 'x', '[]', 'why', now() - make_interval(days => 40 * n) FROM generate_series(0, 3) n
        """
    )
    kept = sum(delivered.record.topic == "segue.jobs" for delivered in batch)
    done = await purge(pool)
    assert (done["events"], done["quarantined"]) == (len(batch) - kept, 1)
    assert await count(pool, "events_default") == kept
    assert await count(pool, "quarantine") == 3


async def test_a_replay_after_the_purge_does_not_change_the_stored_end(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    messages = story.messages()
    await store.store([deliver(message) for message in messages])
    await pool.execute("DELETE FROM events")
    before = await state(pool)
    # As published by services that have purged the rows of the first job.
    late_s = 100 * 86_400
    expired = {"kind": FailureKind.EXPIRED, "message": "the request arrived after its deadline; nothing was sent"}
    second: list[Any] = [
        messages[0],
        JobFailed(**story.job(1, "failed", late_s), **expired),
        AttemptFailed(**story.attempt(2, 1, late_s), **expired, accepted=False),
    ]
    await store.store([deliver(message) for message in second])
    after = await state(pool)

    columns = ("status", "version", "provider", "attempt_id", "error", "cost_usd", "finished_at")
    [job] = await pool.fetch("SELECT * FROM jobs")
    assert {name: job[name] for name in columns} == {
        "status": "succeeded",
        "version": 4,
        "provider": "replicate",
        "attempt_id": f"{story.job_id}.2",
        "error": None,
        "cost_usd": 0.03,
        "finished_at": messages[-1].occurred_at,
    }
    attempt = await pool.fetchrow("SELECT * FROM attempts WHERE n = 2")
    assert attempt is not None
    assert (attempt["state"], attempt["error_kind"], attempt["cost_usd"]) == ("succeeded", None, 0.03)
    [track] = await pool.fetch("SELECT * FROM tracks")
    assert (track["status"], track["artifact_name"]) == ("succeeded", "track.mp3")
    assert after[3] == before[3]
