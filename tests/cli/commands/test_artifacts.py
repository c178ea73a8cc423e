"""`segue artifacts`: the list, the confirmation, and the files that are deleted."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
import typer

import log_sink
from chassis.artifact_keys import artifact_key
from chassis.postgres.pool import migrate
from contracts.ids import attempt_id_for, job_id_for, track_id_for
from segue_cli.commands.artifacts import age, in_bytes

JOB = job_id_for("default", "a job")
MADE = artifact_key(attempt_id_for(JOB, 2), "audio.mp3")
ORPHAN = artifact_key(attempt_id_for(JOB, 1), "audio.mp3")


@dataclass(frozen=True)
class Ended:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """A folder to run `segue` in, with a store that holds a file with a row, and an orphan."""

    cwd: Path
    environ: dict[str, str]

    @property
    def store(self) -> Path:
        return self.cwd / "store"

    def files(self) -> set[str]:
        return {str(path.relative_to(self.store)) for path in self.store.rglob("*") if path.is_file()}

    async def segue(self, *arguments: str, **environ: str) -> Ended:
        names = ("DATABASE_URL", "ARTIFACT_STORE_URL", "SEGUE_ARTIFACT_RETENTION_DAYS")
        outside = {name: value for name, value in os.environ.items() if name not in names}
        called = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "segue_cli", "artifacts", *arguments),
            cwd=self.cwd,
            env=outside | self.environ | environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await called.communicate()
        return Ended(called.returncode or 0, out.decode(), err.decode())


@pytest_asyncio.fixture
async def place(tmp_path: Path, database_url: str) -> AsyncIterator[Place]:
    await migrate(database_url, "log_sink", log_sink)
    store = tmp_path / "store"
    made = Place(tmp_path, {"DATABASE_URL": database_url, "ARTIFACT_STORE_URL": store.as_uri()})
    for key in (MADE, ORPHAN):
        (store / key).parent.mkdir(parents=True, exist_ok=True)
        (store / key).write_bytes(b"x" * 1500)
        os.utime(store / key, (time.time() - 5 * 86_400,) * 2)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO log_sink.jobs (job_id, track_id, tenant, first_at, version, status, updated_at)"
            " VALUES ($1, $2, 'default', now(), 4, 'succeeded', now())",
            JOB,
            track_id_for(JOB),
        )
        await connection.execute(
            "INSERT INTO log_sink.artifacts (attempt_id, name, job_id, content_type, size_bytes, sha256, made_at)"
            " VALUES ($1, 'audio.mp3', $2, 'audio/mpeg', 1500, $3, now() - interval '5 days')",
            attempt_id_for(JOB, 2),
            JOB,
            "b" * 64,
        )
        yield made
    finally:
        await connection.close()


async def test_files_are_listed_and_deleted_after_confirmation(place: Place) -> None:
    listed = await place.segue()
    assert listed.code == 0
    assert "audio.mp3" in listed.out
    assert "1 files, 1.5 kB; 0 have expired." in listed.out

    dry = await place.segue("gc", "--older-than", "30d", "--dry-run")
    assert (dry.code, place.files()) == (0, {MADE, ORPHAN})
    assert "Nothing was deleted." in dry.out
    unasked = await place.segue("gc", "--older-than", "4d")
    assert (unasked.code, place.files()) == (2, {MADE, ORPHAN})
    assert "--yes" in unasked.err

    orphans = await place.segue("gc", "--yes")
    assert (orphans.code, place.files()) == (0, {MADE})
    assert "Deleted 0 files (0 B) that were old enough, and 1 files (1.5 kB) that no row knew." in orphans.out
    both = await place.segue("gc", "--yes", SEGUE_ARTIFACT_RETENTION_DAYS="4")
    assert (both.code, place.files()) == (0, set())
    again = await place.segue("gc", "--older-than", "4d", "--yes")
    assert (again.code, "There is nothing to delete." in again.out) == (0, True)
    assert "0 files, 0 B; 1 have expired." in (await place.segue()).out


async def test_a_missing_setting_is_named(place: Place) -> None:
    for name in place.environ:
        refused = await place.segue("gc", "--yes", **{name: ""})
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith(f"{name} is not set")
    wrong = await place.segue("gc", SEGUE_ARTIFACT_RETENTION_DAYS="soon")
    assert (wrong.code, wrong.err.startswith("SEGUE_ARTIFACT_RETENTION_DAYS")) == (1, True)
    assert place.files() == {MADE, ORPHAN}


async def test_the_bound_of_the_rows_is_that_of_the_services(place: Place) -> None:
    for days in ("1", "30", "nan", "36501"):
        refused = await place.segue("gc", "--yes", SEGUE_ROW_RETENTION_DAYS=days)
        told = "SEGUE_ROW_RETENTION_DAYS: must be a number of days, more than 30 and up to 36500\n"
        assert (refused.code, refused.err) == (1, told)
    assert (await place.segue("gc", "--dry-run", SEGUE_ROW_RETENTION_DAYS="30.5")).code == 0
    assert place.files() == {MADE, ORPHAN}


async def test_a_file_whose_deletion_failed_has_a_row_of_its_own(place: Place) -> None:
    connection = await asyncpg.connect(place.environ["DATABASE_URL"])
    await connection.execute("UPDATE log_sink.artifacts SET expired_at = now()")
    await connection.close()
    dry = await place.segue("gc", "--dry-run")
    rows = [" ".join(line.split()) for line in dry.out.splitlines()]
    assert "old enough: SEGUE_ARTIFACT_RETENTION_DAYS is not set 0 0 B goes" in rows, dry.out
    assert "expired earlier, not deleted yet 1 1.5 kB goes" in rows, dry.out
    assert (await place.segue("gc", "--orphan-age", "30d", "--yes")).code == 0
    assert place.files() == {ORPHAN}


async def test_it_finds_the_segue_that_runs_in_this_folder(place: Place) -> None:
    (place.cwd / ".segue").mkdir()
    (place.cwd / ".segue" / "up.env").write_text("".join(f"{name}='{at}'\n" for name, at in place.environ.items()))
    nothing = dict.fromkeys(place.environ, "")
    assert (await place.segue("gc", "--dry-run", **nothing)).code == 0
    # The store and the database always come from the same place.
    mixed = await place.segue("gc", "--dry-run", ARTIFACT_STORE_URL="")
    assert (mixed.code, mixed.err.startswith("ARTIFACT_STORE_URL is not set")) == (1, True)
    named = await place.segue("gc", "--dry-run", "--env-file", ".segue/up.env", **nothing)
    assert named.code == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [("1h", timedelta(hours=1)), ("30d", timedelta(days=30)), ("2w", timedelta(weeks=2))],
)
def test_an_age_is_a_number_with_a_unit(text: str, value: timedelta) -> None:
    assert age(text) == value


@pytest.mark.parametrize("text", ["", "30", "d", "0h", "0d", "-1d", "1.5d", "30 d", "36501d", "99999w", "٣d"])
def test_any_other_text_is_not_an_age(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"an age such as|between"):
        age(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3 * 10**12, "3.0 TB")]
)
def test_a_size_is_printed_in_units_of_a_thousand(size: int, text: str) -> None:
    assert in_bytes(size) == text
