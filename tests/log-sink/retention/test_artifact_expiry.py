"""Old files are deleted and their rows record it, also after a crash between the two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from chassis.artifact_keys import artifact_key
from chassis.artifacts import ArtifactStore
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool
from chassis.postgres.retention import RetentionWorker
from chassis.runtime.runtime import Runtime
from chassis.settings.service import WrongSettings, load_settings
from log_sink.retention import artifact_expiry
from log_sink.retention.artifact_expiry import Deleted, artifact_expiry_task, expire
from log_sink.settings import SinkSettings
from log_sink.store import Store

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEEP = timedelta(days=30)


@pytest.fixture
def files(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore.open((tmp_path / "store").as_uri())


async def put(files: ArtifactStore, key: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 10

    await files.put_file(chunks(), key, content_type="audio/mpeg")


async def make(pool: Pool, store: Store, files: ArtifactStore, deliver: Any, story: Any) -> list[str]:
    """A job with two files, some months old, in the read model and in the store; returns the keys of the files."""
    await store.store([deliver(message) for message in story.messages()])
    rows = await pool.fetch("SELECT attempt_id, name FROM artifacts WHERE job_id = $1", story.job_id)
    keys = [artifact_key(row["attempt_id"], row["name"]) for row in rows]
    for key in keys:
        await put(files, key)
    return keys


async def run(pool: Pool, files: ArtifactStore, keep: timedelta | None = KEEP) -> Deleted:
    total = Deleted()
    async with pool.acquire() as connection:
        async for batch in expire(connection, files, keep):
            total += batch
    return total


async def stored_keys(files: ArtifactStore) -> set[str]:
    return {file.key async for found in files.listed("jobs") for file in found}


async def rows(pool: Pool) -> list[tuple[bool, float | None, bool]]:
    found = await pool.fetch("SELECT expired_at, kept_days, removed_at FROM artifacts ORDER BY attempt_id, name")
    return [(row["expired_at"] is not None, row["kept_days"], row["removed_at"] is not None) for row in found]


async def test_an_old_file_is_deleted_and_its_row_records_it(
    pool: Pool, store: Store, files: ArtifactStore, deliver: Any, story_of: Any
) -> None:
    await make(pool, store, files, deliver, story_of("old"))
    young = await make(pool, store, files, deliver, story_of("young"))
    await pool.execute("UPDATE artifacts SET made_at = now() WHERE job_id = $1", story_of("young").job_id)
    with capture_logs() as logged:
        assert await run(pool, files) == Deleted(files=2, size_bytes=330)
    assert await stored_keys(files) == set(young)
    assert sorted(await rows(pool)) == [(False, None, False)] * 2 + [(True, 30, True)] * 2
    assert [(line["files"], line["bytes"], line["failed"]) for line in logged] == [(2, 330, 0)]
    assert await run(pool, files) == Deleted()
    shown = await pool.fetch("SELECT expired_at IS NULL AS kept FROM v_tracks ORDER BY kept")
    assert [row["kept"] for row in shown] == [False, True]


async def test_a_file_has_the_time_of_the_event_that_reported_it_first(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    messages = story.messages()
    await store.store([deliver(message) for message in reversed(messages)])
    reported = messages[-2].occurred_at
    assert {row["made_at"] for row in await pool.fetch("SELECT made_at FROM v_artifacts")} == {reported}


@pytest.mark.parametrize("deleted", [0, 1, 2])
async def test_an_interrupted_deletion_is_completed(
    deleted: int, pool: Pool, store: Store, files: ArtifactStore, deliver: Any, story: Any
) -> None:
    keys = await make(pool, store, files, deliver, story)
    await pool.execute("UPDATE artifacts SET expired_at = now() - interval '1 hour', kept_days = 90")
    for key in keys[:deleted]:
        await files.delete(key)
    assert (await run(pool, files, None)).files == 2
    assert await stored_keys(files) == set()
    assert await rows(pool) == [(True, 90, True)] * 2


async def test_a_repeated_event_restores_no_expired_file(
    pool: Pool, store: Store, files: ArtifactStore, deliver: Any, story: Any
) -> None:
    await make(pool, store, files, deliver, story)
    await run(pool, files)
    await pool.execute("DELETE FROM events")
    await store.store([deliver(message) for message in story.messages()])
    assert await rows(pool) == [(True, 30, True)] * 2


async def test_two_concurrent_runs_do_not_disturb_each_other(
    pool: Pool, store: Store, files: ArtifactStore, deliver: Any, story_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_expiry, "BATCH", 3)
    for n in range(8):
        await make(pool, store, files, deliver, story_of(f"job {n}"))
    both = await asyncio.gather(run(pool, files), run(pool, files))
    assert sum(one.files for one in both) >= 16
    assert [one.failed for one in both] == [0, 0]
    assert await stored_keys(files) == set()
    assert await rows(pool) == [(True, 30, True)] * 16


async def test_a_file_that_cannot_be_deleted_does_not_block_others(
    pool: Pool, store: Store, files: ArtifactStore, deliver: Any, story_of: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(artifact_expiry, "BATCH", 2)
    [first, *_] = await make(pool, store, files, deliver, story_of("first"))
    for n in range(3):
        await make(pool, store, files, deliver, story_of(f"job {n}"))
    stubborn = tmp_path / "store" / first
    make_stubborn(tmp_path, first)

    total = await run(pool, files)
    assert (total.files, total.failed) == (7, 1)
    assert sorted(await rows(pool)) == [(True, 30, False)] + [(True, 30, True)] * 7
    (stubborn / "within").rmdir()
    stubborn.rmdir()
    assert (await run(pool, files)).files == 1


def make_stubborn(tmp_path: Path, key: str) -> None:
    """Put a folder in the place of a file, so that it cannot be deleted."""
    (tmp_path / "store" / key).unlink()
    (tmp_path / "store" / key / "within").mkdir(parents=True)


async def test_a_run_stops_after_several_batches_if_the_store_deletes_nothing(
    pool: Pool, store: Store, files: ArtifactStore, deliver: Any, story_of: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(artifact_expiry, "BATCH", 2)
    monkeypatch.setattr(artifact_expiry, "FAILED_BATCHES", 2)
    for n in range(4):
        for key in await make(pool, store, files, deliver, story_of(f"job {n}")):
            make_stubborn(tmp_path, key)
    assert await run(pool, files) == Deleted(failed=4)
    assert sum(expired for expired, _, _ in await rows(pool)) == 4


async def test_files_that_can_never_be_deleted_do_not_stop_the_expiry_of_others(
    pool: Pool, store: Store, files: ArtifactStore, deliver: Any, story_of: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(artifact_expiry, "BATCH", 2)
    monkeypatch.setattr(artifact_expiry, "FAILED_BATCHES", 2)
    for n in range(4):
        for key in await make(pool, store, files, deliver, story_of(f"stubborn {n}")):
            make_stubborn(tmp_path, key)
    await run(pool, files)
    await run(pool, files)
    for n in range(3):
        await make(pool, store, files, deliver, story_of(f"later {n}"))
    interrupted = story_of("later 0").job_id
    await pool.execute("UPDATE artifacts SET expired_at = now(), kept_days = 30 WHERE job_id = $1", interrupted)
    assert (await run(pool, files)).files == 6


async def test_the_rows_that_are_due_are_found_without_reading_those_that_are_not(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO artifacts (attempt_id, name, job_id, content_type, size_bytes, sha256)"
        " SELECT n, 'track.mp3', n, 'audio/mpeg', 1, '' FROM generate_series(1, 5000) n"
    )
    await pool.execute("ANALYZE artifacts")
    asked = "EXPLAIN SELECT FROM artifacts WHERE {} ORDER BY {} LIMIT 200"
    due = await pool.fetch(asked.format(artifact_expiry.DUE.replace("$1", "'30 days'"), "made_at, attempt_id, name"))
    left = await pool.fetch(asked.format(artifact_expiry.LEFT_OVER, "expired_at DESC, attempt_id DESC, name DESC"))
    plan_of_due, plan_of_left = ("\n".join(row[0] for row in plan) for plan in (due, left))
    assert "Index Cond: (made_at <" in plan_of_due
    assert "using artifacts_left_over" in plan_of_left


async def test_the_retention_worker_of_the_sink_deletes_files(
    pool: Pool, store: Store, files: ArtifactStore, deliver: Any, story: Any
) -> None:
    await make(pool, store, files, deliver, story)
    worker = RetentionWorker(
        pool, Runtime("log-sink", make_telemetry("x", None)), "log_sink", [artifact_expiry_task(files, KEEP)]
    )
    assert await worker.once() == {"artifacts": 2}
    assert await stored_keys(files) == set()


@pytest.mark.parametrize(
    ("value", "reported"), [("0.5", "greater than or equal to 1"), ("30", "needs ARTIFACT_STORE_URL")]
)
async def test_an_invalid_setting_is_refused(value: str, reported: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:9092")
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/segue")
    monkeypatch.delenv("ARTIFACT_STORE_URL", raising=False)
    monkeypatch.setenv("SEGUE_ARTIFACT_RETENTION_DAYS", value)
    with pytest.raises(WrongSettings, match=f"SEGUE_ARTIFACT_RETENTION_DAYS: .*{reported}"):
        load_settings(SinkSettings)
    monkeypatch.setenv("SEGUE_ARTIFACT_RETENTION_DAYS", "30")
    monkeypatch.setenv("ARTIFACT_STORE_URL", "file:///store")
    assert load_settings(SinkSettings).keep_artifacts == timedelta(days=30)
    monkeypatch.delenv("SEGUE_ARTIFACT_RETENTION_DAYS")
    assert load_settings(SinkSettings).keep_artifacts is None
