"""The artifact store in a folder: listing, deleting, and permissions."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.users import as_nobody

from chassis import artifacts
from chassis.artifact_keys import artifact_key
from chassis.artifacts import STORE_ERRORS, ArtifactStore, ListedFile
from chassis.errors import CannotStart
from contracts.ids import attempt_id_for, job_id_for

JOB = job_id_for("default", "a job")
KEY = artifact_key(attempt_id_for(JOB, 1), "audio.mp3")
FOLDER = KEY.rpartition("/")[0]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore.open((tmp_path / "store").as_uri())


async def put(store: ArtifactStore, key: str, size: int = 5) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * size

    await store.put_file(chunks(), key, content_type="audio/mpeg")


async def listed(store: ArtifactStore, prefix: str = "jobs") -> dict[str, ListedFile]:
    return {file.key: file async for files in store.listed(prefix) for file in files}


async def test_all_files_below_a_folder_are_listed(store: ArtifactStore) -> None:
    assert await listed(store) == {}
    other = job_id_for("default", "another job")
    keys = {artifact_key(attempt_id_for(job_id, n), "audio.mp3") for job_id in (JOB, other) for n in range(1, 4)}
    for key in keys:
        await put(store, key)
    await put(store, "elsewhere/audio.mp3")
    found = await listed(store)
    assert found.keys() == keys
    assert {file.size_bytes for file in found.values()} == {5}
    assert all(datetime.now(UTC) - file.written_at < timedelta(minutes=5) for file in found.values())
    assert (await listed(store, FOLDER)).keys() == {key for key in keys if JOB in key}
    assert await listed(store, f"{FOLDER}/{JOB}.") == {}, "a folder is listed, not a prefix of names"


async def test_files_of_a_killed_writer_are_listed_and_can_be_deleted(store: ArtifactStore, tmp_path: Path) -> None:
    await put(store, KEY)
    key = artifact_key(attempt_id_for(JOB, 1), "audio-2.mp3#1")
    (tmp_path / "store" / key).write_bytes(b"half a file")
    found = await listed(store)
    assert found.keys() == (await listed(store, FOLDER)).keys() == {KEY, key}
    assert found[key].size_bytes == len(b"half a file")
    assert await listed(store, "jobs/00") == {}
    await store.delete(key)
    assert (await listed(store)).keys() == {KEY}
    with pytest.raises(FileNotFoundError):
        await store.delete(key)


async def test_the_incomplete_file_of_a_put_lies_beside_its_key(store: ArtifactStore) -> None:
    seen = dict[str, ListedFile]()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 20_000_000  # More than the client holds back.
        seen.update(await listed(store, FOLDER))

    await store.put_file(chunks(), KEY, content_type="audio/mpeg")
    assert seen.keys() == {f"{KEY}#1"}
    assert (await listed(store, FOLDER)).keys() == {KEY}


async def test_a_folder_stays_when_its_last_file_is_deleted(store: ArtifactStore, tmp_path: Path) -> None:
    await put(store, KEY)
    await store.delete(KEY)
    assert list((tmp_path / "store" / FOLDER).iterdir()) == []
    with pytest.raises(FileNotFoundError):
        await store.delete(KEY)
    await put(store, KEY)
    assert (await listed(store)).keys() == {KEY}


async def test_files_of_one_folder_are_written_and_deleted_at_the_same_time(store: ArtifactStore) -> None:
    async def written_and_deleted(n: int) -> None:
        for name in (f"audio-{each}.mp3" for each in range(1, 21)):
            key = artifact_key(attempt_id_for(JOB, n), name)
            await put(store, key)
            await store.delete(key)
        await put(store, artifact_key(attempt_id_for(JOB, n), "audio.mp3"))

    await asyncio.gather(*(written_and_deleted(n) for n in range(1, 9)))
    assert (await listed(store)).keys() == {artifact_key(attempt_id_for(JOB, n), "audio.mp3") for n in range(1, 9)}


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A umask that gives everybody access."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


async def test_files_and_folders_are_readable_by_their_owner_only(tmp_path: Path, open_umask: None) -> None:
    folder = tmp_path / "made" / "store"
    await put(ArtifactStore.open(folder.as_uri(), writing=True), KEY)
    assert modes(folder) == {".": 0o700, "jobs": 0o700, FOLDER: 0o700, KEY: 0o600}


async def test_with_the_umask_of_a_service_no_mode_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_close_with_parents", lambda *_: pytest.fail("a mode is changed"))
    folder, other = tmp_path / "store", artifact_key(attempt_id_for(JOB, 2), "audio.mp3")
    before = os.umask(0o077)
    try:
        store = ArtifactStore.open(folder.as_uri(), writing=True)
        await store.put_bytes(b"few", KEY, content_type="audio/mpeg")
        await put(store, other)
    finally:
        os.umask(before)
    assert modes(folder) == {".": 0o700, "jobs": 0o700, FOLDER: 0o700, KEY: 0o600, other: 0o600}


def test_permissions_of_an_existing_store_are_restricted(tmp_path: Path, open_umask: None) -> None:
    file = tmp_path / "store" / KEY
    file.parent.mkdir(parents=True)
    file.touch()
    (file.parent / "elsewhere").symlink_to("/")
    ArtifactStore.open((tmp_path / "store").as_uri())
    told = modes(tmp_path / "store")
    told.pop(f"{FOLDER}/elsewhere")
    assert told == {".": 0o700, "jobs": 0o700, FOLDER: 0o700, KEY: 0o600}
    assert Path("/").stat().st_mode & 0o077


def test_permissions_of_a_folder_with_other_files_are_kept(tmp_path: Path, open_umask: None) -> None:
    shared = tmp_path / "shared"
    (shared / "jobs").mkdir(parents=True)
    (shared / "photos").mkdir()
    ArtifactStore.open(shared.as_uri())
    assert modes(shared) == {".": 0o777, "jobs": 0o700, "photos": 0o777}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("file:///proc/nowhere", "ARTIFACT_STORE_URL cannot be used: "),
        ("file:///dev/null", "ARTIFACT_STORE_URL cannot be used: "),
        ("file:relative", "ARTIFACT_STORE_URL needs an absolute path"),
        ("file:///", "ARTIFACT_STORE_URL needs an absolute path"),
        ("/var/lib/segue", "ARTIFACT_STORE_URL must start with one of file://, s3://"),
        ("az://container", "ARTIFACT_STORE_URL cannot be used: "),
    ],
)
def test_an_unusable_store_is_reported_in_one_line(url: str, told: str) -> None:
    with pytest.raises(CannotStart) as refused:
        ArtifactStore.open(url, writing=True)
    assert str(refused.value).startswith(told)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_writable_is_reported_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o555)
    with as_nobody(tmp_path):
        ArtifactStore.open(folder.as_uri())
        with pytest.raises(
            CannotStart, match=r"^ARTIFACT_STORE_URL: .* is not accessible to this user: Permission denied; let it"
        ):
            ArtifactStore.open(folder.as_uri(), writing=True)


def test_a_reader_needs_no_permission_to_write(tmp_path: Path, open_umask: None) -> None:
    folder = tmp_path / "store"
    (folder / "jobs").mkdir(parents=True)
    opened = f"from chassis.artifacts import ArtifactStore; ArtifactStore.open({folder.as_uri()!r})"
    mounted = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} && exec {sys.executable} -c"
    within = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*within, "true"], check=False).returncode:
        pytest.skip("this needs user namespaces")
    ended = subprocess.run(
        [*within, "sh", "-c", f'{mounted} "$0"', opened], check=False, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def status(store: ArtifactStore) -> str:
    return store.dependency.seen.status


async def test_the_store_is_seen_as_its_answers_are_and_not_as_the_source_is(tmp_path: Path) -> None:
    store = ArtifactStore.open((tmp_path / "store").as_uri())
    assert status(store) == "unknown"

    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise OSError("the provider's host does not answer")

    with pytest.raises(Exception, match="does not answer"):
        await store.put_file(broken(), KEY, content_type="audio/mpeg")
    assert status(store) == "unknown"
    with pytest.raises(FileNotFoundError):
        await store.head(KEY)
    assert status(store) == "ok"
    (tmp_path / "store" / "jobs").mkdir(exist_ok=True)
    (tmp_path / "store" / "jobs" / "00").touch()
    with pytest.raises(STORE_ERRORS):
        await put(store, "jobs/00/c.wav")
    assert status(store) == "fail"
    assert str(tmp_path) not in (store.dependency.seen.reason or "")
