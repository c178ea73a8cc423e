"""The bytes of an output are given back as they came, from memory or from a file that nobody else can open."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from adapter_kit.artifacts.spool import HELD_BYTES, Spool


def read(spool: Spool) -> bytes:
    content = spool.content()
    return content if isinstance(content, bytes) else content.read()


@pytest.mark.parametrize("size", [0, 1, HELD_BYTES, HELD_BYTES + 1, 3 * HELD_BYTES + 5])
@pytest.mark.parametrize("at_once", [1000, 65_536, HELD_BYTES, 4 * HELD_BYTES])
def test_what_was_appended_is_given_back_with_its_hash(tmp_path: Path, size: int, at_once: int) -> None:
    content = os.urandom(size)
    with Spool(tmp_path) as spool:
        for at in range(0, size, at_once):
            spool.append(content[at : at + at_once])
        assert isinstance(spool.content(), bytes) == (size <= HELD_BYTES)
        assert (spool.size, spool.sha256()) == (size, hashlib.sha256(content).hexdigest())
        assert (read(spool), spool.file().read(), read(spool)) == (content, content, content)


def test_more_is_appended_at_the_end_whatever_was_read(tmp_path: Path) -> None:
    parts = [os.urandom(HELD_BYTES + 1) for _ in range(3)]
    with Spool(tmp_path) as spool:
        for part in parts:
            spool.append(part)
            spool.file().read(10)
        spool.append(b"end")
        whole = b"".join(parts) + b"end"
        assert (read(spool), spool.sha256()) == (whole, hashlib.sha256(whole).hexdigest())


@pytest.mark.parametrize("first", [3, 2 * HELD_BYTES])
@pytest.mark.parametrize("then", [5, 3 * HELD_BYTES])
def test_a_cleared_spool_starts_over_and_a_replaced_one_has_the_others_content(
    tmp_path: Path, first: int, then: int
) -> None:
    content = os.urandom(then)
    with Spool(tmp_path) as spool, spool.empty() as other:
        spool.append(bytes(first))
        spool.clear()
        assert (spool.size, read(spool), spool.sha256()) == (0, b"", hashlib.sha256().hexdigest())
        spool.append(content)
        assert (spool.size, read(spool)) == (then, content)
        other.append(content[::-1])
        spool.replace(other)
        other.__exit__()
        assert (spool.size, read(spool)) == (then, content[::-1])
        assert spool.sha256() == hashlib.sha256(content[::-1]).hexdigest()


def test_a_closed_spool_keeps_nothing_in_memory(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.hold(b"0123456789")
    assert spool._held == b""


def test_the_file_has_no_name_and_belongs_to_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Spool(tmp_path) as spool:
            spool.append(bytes(HELD_BYTES + 1))
            assert list(tmp_path.iterdir()) == []
            status = os.fstat(spool.file().fileno())
    finally:
        os.umask(before)
    assert (status.st_mode & 0o777, status.st_nlink) == (0o600, 0)


@pytest.fixture
def full_disk() -> Iterator[int]:
    """A disk on which a file cannot have more than this many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = 2 * HELD_BYTES
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    yield most
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_an_error_of_the_write_and_not_of_the_close(tmp_path: Path, full_disk: int) -> None:
    file: BinaryIO | None = None
    with Spool(tmp_path) as spool:
        spool.append(bytes(full_disk - 10))
        file = spool.file()
        with pytest.raises(OSError, match="File too large"):
            spool.append(bytes(full_disk))
    assert file.closed
