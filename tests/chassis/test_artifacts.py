"""The artifact store in a folder: what it lists, and what deleting leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chassis.artifacts import ArtifactStore, ListedFile, artifact_key


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
    keys = {artifact_key("a", f"a.{n}", "audio.mp3") for n in range(1, 4)}
    for key in keys:
        await put(store, key)
    await put(store, "elsewhere/audio.mp3")
    found = await listed(store)
    assert found.keys() == keys
    assert {file.size_bytes for file in found.values()} == {5}
    assert all(datetime.now(UTC) - file.written_at < timedelta(minutes=5) for file in found.values())
    assert (await listed(store, "jobs/a/a.2")).keys() == {"jobs/a/a.2/audio.mp3"}


async def test_what_a_killed_writer_left_is_listed_and_can_be_deleted(store: ArtifactStore, tmp_path: Path) -> None:
    await put(store, "jobs/a/a.1/audio.mp3")
    key = "jobs/a/a.1/audio-2.mp3#1"
    (tmp_path / "store" / key).write_bytes(b"half a file")
    found = await listed(store)
    assert found.keys() == {"jobs/a/a.1/audio.mp3", key}
    assert found[key].size_bytes == len(b"half a file")
    await store.delete(key)
    assert (await listed(store)).keys() == {"jobs/a/a.1/audio.mp3"}
    with pytest.raises(FileNotFoundError):
        await store.delete(key)


async def test_a_folder_goes_with_its_last_file(store: ArtifactStore, tmp_path: Path) -> None:
    await put(store, "jobs/a/a.1/audio.mp3")
    await put(store, "jobs/a/a.2/audio.mp3")
    await store.delete("jobs/a/a.1/audio.mp3")
    assert [path.name for path in (tmp_path / "store" / "jobs" / "a").iterdir()] == ["a.2"]
    with pytest.raises(FileNotFoundError):
        await store.delete("jobs/a/a.1/audio.mp3")
    await put(store, "jobs/a/a.1/audio.mp3")
    assert len(await listed(store)) == 2
