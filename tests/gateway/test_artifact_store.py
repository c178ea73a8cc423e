"""The artifact store in a folder: whole files or none."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.artifact_keys import artifact_key
from chassis.artifacts import ArtifactStore
from chassis.errors import CannotStart

KEY = artifact_key("job.1", "track.mp3")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore.open((tmp_path / "made" / "here").as_uri())


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(store: ArtifactStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in await store.get(key, start, end)])


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_written_file_is_measured_and_can_be_read(store: ArtifactStore, tmp_path: Path) -> None:
    parts = [bytes([n]) * 700_000 for n in range(10)]
    stored = await store.put_file(chunks(*parts), KEY, content_type="audio/mpeg")
    whole = b"".join(parts)
    assert (stored.size_bytes, stored.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert await read(store, KEY) == whole
    assert await read(store, KEY, 699_999, 700_001) == b"\x00\x01"
    assert await read(store, KEY, len(whole) - 2) == b"\x09\x09"
    assert await store.head(KEY) == len(whole)
    file = tmp_path / "source"
    file.write_bytes(b"other")
    with file.open("rb") as opened:
        opened.seek(3)
        assert (await store.put_file(opened, KEY, content_type="audio/mpeg")).size_bytes == 5
    assert await read(store, KEY) == b"other"
    await store.put_bytes(b"few", KEY, content_type="audio/mpeg")
    assert await read(store, KEY) == b"few"


async def test_a_failed_source_leaves_no_file(store: ArtifactStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 6_000_000
        raise ConnectionResetError("the provider hung up")

    with pytest.raises(ConnectionResetError):
        await store.put_file(broken(), KEY, content_type="audio/mpeg")
    with pytest.raises(FileNotFoundError):
        await store.get(KEY)
    with pytest.raises(FileNotFoundError):
        await store.head(KEY)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["", "artifacts", "file://relative/path", "ftp://host/x", "az://container", "s3://id:SECRET@bucket"]
)
def test_an_invalid_store_url_is_reported_at_start(url: str) -> None:
    with pytest.raises(CannotStart, match="ARTIFACT_STORE_URL") as caught:
        ArtifactStore.open(url)
    assert "SECRET" not in str(caught.value)


def test_a_bucket_is_opened_without_a_request() -> None:
    assert ArtifactStore.open("s3://bucket/prefix") is not None
