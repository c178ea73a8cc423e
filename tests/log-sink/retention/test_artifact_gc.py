"""The collection deletes files that no row refers to and no attempt can still refer to; all others stay."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chassis.artifact_keys import artifact_key
from chassis.artifacts import ArtifactStore
from chassis.postgres.pool import Pool
from chassis.postgres.retention import lock_of
from contracts.ids import attempt_id_for
from log_sink.retention.artifact_expiry import Deleted
from log_sink.retention.artifact_gc import CannotCollect, Survey, Tally, collection, stored_artifacts
from log_sink.store import Store

pytestmark = pytest.mark.asyncio(loop_scope="session")

DAY_S = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def files(folder: Path) -> ArtifactStore:
    return ArtifactStore.open(folder.as_uri())


class Files:
    """The artifact store, and the database of the read model."""

    def __init__(self, folder: Path, files: ArtifactStore, database_url: str) -> None:
        self.folder = folder
        self.files = files
        self.database_url = database_url

    async def put(self, key: str, *, days: float = 2, size: int = 10) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"x" * size

        await self.files.put_file(chunks(), key, content_type="audio/mpeg")
        self.age(key, days)
        return key

    def leave_unfinished(self, key: str, *, days: float = 2) -> str:
        (self.folder / key).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / key).write_bytes(b"half")
        self.age(key, days)
        return key

    def age(self, key: str, days: float) -> None:
        at = time.time() - days * DAY_S
        os.utime(self.folder / key, (at, at))

    async def stored_keys(self) -> set[str]:
        return {file.key async for found in self.files.listed("jobs") for file in found}

    async def survey(self, keep: timedelta | None = None, age: timedelta = timedelta(days=1)) -> Survey:
        async with collection(self.database_url, self.folder.as_uri(), keep, age) as store:
            return await store.survey()

    async def delete(self, found: Survey, keep: timedelta | None = None) -> tuple[Deleted, Deleted]:
        async with collection(self.database_url, self.folder.as_uri(), keep) as store:
            return await store.delete(found)


@pytest.fixture
def made(folder: Path, files: ArtifactStore, database_url: str) -> Files:
    return Files(folder, files, database_url)


async def store_messages(store: Store, deliver: Any, story: Any, upto: int | None = None) -> None:
    await store.store([deliver(message) for message in story.messages()[:upto]])


async def store_job(made: Files, store: Store, deliver: Any, story: Any) -> set[str]:
    """Store a finished job with its two files; returns their keys."""
    await store_messages(store, deliver, story)
    attempt_id = attempt_id_for(story.job_id, 2)
    names = ("cover.png", "track.mp3")
    return {await made.put(artifact_key(attempt_id, name), days=30) for name in names}


def shard_of(story: Any) -> str:
    return str(story.job_id[-2:])


async def test_orphans_are_deleted_and_everything_else_stays(
    made: Files, store: Store, pool: Pool, deliver: Any, story_of: Any
) -> None:
    done, live, unknown = story_of("done"), story_of("live"), story_of("unheard of")
    kept = await store_job(made, store, deliver, done)
    await store_messages(store, deliver, live, 9)  # until its second attempt runs
    first = attempt_id_for(done.job_id, 1)
    orphans = {
        await made.put(artifact_key(first, "audio.mp3"), size=7),
        await made.put(artifact_key(attempt_id_for(done.job_id, 2), "audio-2.mp3")),
        made.leave_unfinished(artifact_key(first, "audio.mp3#1")),
    }
    staying = {
        await made.put(artifact_key(first, "young.mp3"), days=0.9),
        await made.put(artifact_key(attempt_id_for(live.job_id, 2), "audio.mp3"), days=9),
        await made.put(artifact_key(attempt_id_for(unknown.job_id, 1), "audio.mp3"), days=99),
        # Not files of a job.
        await made.put(f"jobs/{shard_of(live)}/{first}.audio.mp3", days=99),
        await made.put(f"jobs/{shard_of(done)}/more/{first}.audio.mp3", days=99),
        await made.put("jobs/readme.txt", days=99),
    }

    found = await made.survey()
    assert {file.key for file in found.orphans} == orphans
    assert found.standing == {
        "kept": Tally(2, 20),
        "orphan": Tally(3, 21),
        "young": Tally(2, 20),
        "foreign": Tally(1, 10),
    }
    assert await made.stored_keys() == kept | orphans | staying, "a survey changes nothing"
    assert await made.delete(found) == (Deleted(), Deleted(3, 21))
    assert await made.stored_keys() == kept | staying
    assert (await made.survey()).orphans == ()


async def test_files_of_an_attempt_that_is_still_collecting_stay_after_the_end_of_its_job(
    made: Files, store: Store, pool: Pool, deliver: Any, story: Any
) -> None:
    await store_job(made, store, deliver, story)
    await made.put(artifact_key(attempt_id_for(story.job_id, 1), "audio.mp3"), days=9)
    await pool.execute("UPDATE attempts SET state = 'collecting' WHERE n = 1")
    assert (await made.survey()).orphans == ()
    await pool.execute("UPDATE attempts SET state = 'failed' WHERE n = 1")
    assert len((await made.survey()).orphans) == 1


@pytest.mark.parametrize(
    ("kind", "days_ago", "orphans"),
    [("output_refused", 30, 0), ("store_failed", 89, 0), ("output_refused", 91, 1), ("model_error", 30, 1)],
)
async def test_files_of_an_attempt_stay_while_its_other_outputs_can_be_collected(
    made: Files, store: Store, pool: Pool, deliver: Any, story: Any, kind: str, days_ago: int, orphans: int
) -> None:
    await store_job(made, store, deliver, story)
    await made.put(artifact_key(attempt_id_for(story.job_id, 1), "audio.mp3"), days=99)
    await pool.execute(
        "UPDATE attempts SET error_kind = $1, finished_at = now() - make_interval(days => $2) WHERE n = 1",
        kind,
        days_ago,
    )
    assert len((await made.survey()).orphans) == orphans


async def test_an_orphan_that_gets_a_row_or_is_written_again_in_the_meantime_stays(
    made: Files, store: Store, pool: Pool, deliver: Any, story: Any
) -> None:
    await store_job(made, store, deliver, story)
    attempt_id = attempt_id_for(story.job_id, 1)
    adopted = await made.put(artifact_key(attempt_id, "audio.mp3"))
    again = await made.put(artifact_key(attempt_id, "audio-2.mp3"))
    found = await made.survey()
    assert {file.key for file in found.orphans} == {adopted, again}
    await pool.execute(
        "INSERT INTO artifacts (attempt_id, name, job_id, content_type, size_bytes, sha256)"
        " VALUES ($1, 'audio.mp3', $2, 'audio/mpeg', 10, $3)",
        attempt_id,
        story.job_id,
        "d" * 64,
    )
    made.age(again, days=0)
    assert await made.delete(found) == (Deleted(), Deleted())
    assert {adopted, again} <= await made.stored_keys()


async def test_an_orphan_that_was_not_in_the_survey_stays_also_in_the_folder_of_one_that_was(
    made: Files, store: Store, deliver: Any, story: Any
) -> None:
    kept = await store_job(made, store, deliver, story)
    surveyed = await made.put(artifact_key(attempt_id_for(story.job_id, 1), "audio.mp3"))
    found = await made.survey()
    later = await made.put(artifact_key(attempt_id_for(story.job_id, 1), "audio-2.mp3"))
    assert [file.key for file in found.orphans] == [surveyed]
    assert await made.delete(found) == (Deleted(), Deleted(1, 10))
    assert await made.stored_keys() == kept | {later}
    assert [file.key for file in (await made.survey()).orphans] == [later]


async def test_old_files_are_deleted_only_with_a_retention_time(
    made: Files, store: Store, deliver: Any, story: Any
) -> None:
    await store_job(made, store, deliver, story)
    assert (await made.survey()).due == Tally()
    assert (await made.survey(timedelta(days=30_000))).due == Tally()
    found = await made.survey(timedelta(days=30))
    assert found.due == Tally(2, 330)
    assert await made.delete(found, timedelta(days=30)) == (Deleted(2, 330), Deleted())
    assert await made.stored_keys() == set()
    listed, totals = await stored_artifacts(made.database_url, 10)
    assert [(each.name, each.expired_at is not None) for each in listed] == [("cover.png", True), ("track.mp3", True)]
    assert (totals.kept, totals.expired) == (Tally(), 2)


async def test_files_that_could_not_be_deleted_are_told_apart_from_those_that_are_due(
    made: Files, store: Store, pool: Pool, deliver: Any, story: Any
) -> None:
    await store_job(made, store, deliver, story)
    await pool.execute("UPDATE artifacts SET expired_at = now() WHERE name = 'track.mp3'")
    size = await pool.fetchval("SELECT size_bytes FROM artifacts WHERE name = 'track.mp3'")
    found = await made.survey()
    assert (found.due, found.left_over) == (Tally(), Tally(1, size))
    found = await made.survey(timedelta(days=30))
    assert (found.due, found.left_over) == (Tally(1, 330 - size), Tally(1, size))
    assert (await made.delete(found))[0] == Deleted(1, size)


async def test_a_store_without_the_files_of_the_rows_is_refused(
    made: Files, store: Store, deliver: Any, story: Any
) -> None:
    await store_messages(store, deliver, story)
    with pytest.raises(CannotCollect, match="none of the 2 files"):
        await made.survey(timedelta(days=30))


async def test_a_survey_fails_at_once_while_the_retention_runs(made: Files, pool: Pool) -> None:
    async with pool.acquire() as sink, sink.transaction():
        await sink.execute("SELECT pg_advisory_xact_lock(hashtext($1))", lock_of("log_sink"))
        with pytest.raises(CannotCollect, match="right now"):
            await made.survey()
    assert (await made.survey()).orphans == ()


@pytest.mark.parametrize(
    ("granted", "told"),
    [
        ("CONNECT ON DATABASE {}", r'role "stranger" may not use schema log_sink, .* `segue roles`'),
        ("USAGE ON SCHEMA log_sink", r'role "stranger" may not read and write all tables of schema log_sink .*GRANT'),
    ],
)
async def test_a_right_that_is_missing_is_named_with_the_remedy(
    made: Files, pool: Pool, granted: str, told: str
) -> None:
    database = await pool.fetchval("SELECT quote_ident(current_database())")
    await pool.execute(f"CREATE ROLE stranger LOGIN; GRANT {granted.format(database)} TO stranger")
    made.database_url = made.database_url.replace("segue@", "stranger@")
    try:
        with pytest.raises(CannotCollect, match=f"^DATABASE_URL: the {told}"):
            await made.survey()
        with pytest.raises(CannotCollect, match=f"^DATABASE_URL: the {told}"):
            await stored_artifacts(made.database_url, 10)
    finally:
        await pool.execute("DROP OWNED BY stranger; DROP ROLE stranger")


async def test_a_database_without_tables_is_reported_in_one_line(made: Files, server_url: str) -> None:
    made.database_url = server_url.rpartition("/")[0] + "/postgres"
    with pytest.raises(CannotCollect, match="start it first"):
        await made.survey()
    with pytest.raises(CannotCollect, match="start it first"):
        await stored_artifacts(made.database_url, 10)
    made.database_url = "postgresql://segue@127.0.0.1:1/nothing?x"
    with pytest.raises(CannotCollect, match="ARTIFACT_STORE_URL"):
        async with collection(made.database_url, "ftp://x", None):
            pass
