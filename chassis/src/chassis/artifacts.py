"""The artifact store, which keeps the outputs of jobs after the provider has deleted them.

A URL names a folder on disk or a bucket (S3, Google Cloud Storage, Azure). `artifact_keys.py` has the keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EACCES
from pathlib import Path
from typing import BinaryIO, Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from chassis.artifact_keys import JOBS
from chassis.errors import CannotStart
from chassis.runtime.dependencies import Dependency, failed_with
from chassis.runtime.private_files import UMASK, close_file, close_folder

SCHEMES: Final = ("file", "s3", "gs", "az")
CHUNK_BYTES: Final = 256 * 1024
LISTED_AT_ONCE: Final = 1000
READ_LIMIT_S: Final = 5.0
"""Seconds within which the store has to begin to answer. Its client alone would try again for three minutes."""
WRITE_LIMIT_S: Final = 60.0
"""Seconds within which the store has to have taken a file."""
CHUNK_LIMIT_S: Final = 30.0
"""Seconds within which the store has to send the next chunk of a file."""
_TOP_FOLDERS: Final = frozenset({JOBS, "doctor"})
"""The top-level folders of all keys."""
_UNFINISHED: Final = re.compile(r"#\d+$")
"""The suffix that obstore gives to an incomplete file in a folder on disk."""

STORE_ERRORS: Final[tuple[type[Exception], ...]] = (BaseError, OSError)
"""Raised by operations if the store is unavailable or refuses; FileNotFoundError, one of them, means no such key."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The size and the hash of a file, computed while it was written."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as the store lists it."""

    key: str
    size_bytes: int
    written_at: datetime


class ArtifactStore:
    """Writes and reads files by key; a file is visible only once it is complete."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        read_limit_s: float = READ_LIMIT_S,
        write_limit_s: float = WRITE_LIMIT_S,
        chunk_limit_s: float = CHUNK_LIMIT_S,
    ) -> None:
        self._store = store
        self._read_limit_s = read_limit_s
        self._write_limit_s = write_limit_s
        self._chunk_limit_s = chunk_limit_s
        self._folder = store.prefix if isinstance(store, LocalStore) else None
        self._made_private = False
        """Whether what is new in the folder can be accessed by its owner only without any change of its modes."""
        self.dependency = Dependency()

    @classmethod
    def open(cls, url: str, *, writing: bool = False) -> Self:
        """The store that `url` names; a missing folder is created, accessible to its owner only.

        Raises CannotStart if the URL cannot be used, or if the folder is not writable and `writing` is set.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise CannotStart(f"ARTIFACT_STORE_URL must start with one of {', '.join(s + '://' for s in SCHEMES)}")
        if "@" in parts.netloc:
            raise CannotStart("ARTIFACT_STORE_URL must have no user and no password; the environment has credentials")
        try:
            if parts.scheme == "file":
                if not url.startswith("file:///") or parts.path == "/":
                    raise CannotStart("ARTIFACT_STORE_URL needs an absolute path, as in file:///var/lib/segue")
                # Empty folders stay: to remove one while a file is put into it makes that put fail.
                store = cls(from_url(url, mkdir=True))
                store._prepare_folder(writing=writing)
                return store
            return cls(from_url(url))
        except PermissionError as error:
            raise CannotStart(
                f"ARTIFACT_STORE_URL: {error.filename or url} is not accessible to this user: {error.strerror}; let it"
                " read and write there, or name another folder"
            ) from error
        except (BaseError, OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise CannotStart(f"ARTIFACT_STORE_URL cannot be used: {reason}") from error

    def _prepare_folder(self, *, writing: bool) -> None:
        folder = self._folder
        if folder is None:
            return
        if writing:
            self._made_private = not _modes_of_what_is_new(folder) & UMASK
        elif not os.access(folder, os.R_OK | os.X_OK):
            raise PermissionError(EACCES, os.strerror(EACCES), str(folder))
        if {path.name for path in folder.iterdir()} <= _TOP_FOLDERS and not folder.stat().st_mode & stat.S_ISVTX:
            close_folder(folder)
        # The mode of a folder with other files in it may be intended.
        for name in _TOP_FOLDERS:
            close_folder(folder / name)

    async def put_file(self, source: BinaryIO | AsyncIterable[bytes], key: str, *, content_type: str) -> StoredFile:
        """Write a file under `key`, replacing an existing one. If `source` raises, nothing is written.

        A `source` on disk is read from its beginning. Raises TimeoutError if the store is too slow.
        """
        measured = _Measured(source if isinstance(source, AsyncIterable) else _chunks_of(source))
        with self._observed(lambda: measured.failed):
            await self._put(key, measured, content_type)
        return StoredFile(measured.size_bytes, measured.digest.hexdigest())

    async def put_bytes(self, content: bytes, key: str, *, content_type: str) -> None:
        """Write a small file under `key`, replacing an existing one. A bucket is sent one request for it.

        Raises TimeoutError if the store is too slow.
        """
        with self._observed():
            await self._put(key, content, content_type)

    async def _put(self, key: str, source: bytes | _Measured, content_type: str) -> None:
        # obstore rejects attributes for a folder on disk.
        attributes = {"Content-Type": content_type} if self._folder is None else None
        async with asyncio.timeout(self._write_limit_s):
            await obstore.put_async(self._store, key, source, attributes=attributes)
        if self._folder is not None and not self._made_private:
            await asyncio.to_thread(_close_with_parents, self._folder, key)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end`, exclusive, in chunks.

        Raises FileNotFoundError before the first chunk, and TimeoutError there and later if the store is too slow.
        """
        options: obstore.GetOptions = {}
        if end is not None:
            options = {"range": (start, end)}
        elif start:
            options = {"range": {"offset": start}}
        with self._observed():
            async with asyncio.timeout(self._read_limit_s):
                found = await obstore.get_async(self._store, key, options=options)
        return self._chunks(found.stream(min_chunk_size=CHUNK_BYTES))

    async def _chunks(self, stream: obstore.BytesStream) -> AsyncIterator[bytes]:
        while True:
            with self._observed():
                async with asyncio.timeout(self._chunk_limit_s):
                    chunk = await anext(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)

    async def delete(self, key: str) -> None:
        """Delete a file. If there is none, a folder on disk raises FileNotFoundError; a bucket raises nothing."""
        if self._folder is not None and _UNFINISHED.search(key):
            await asyncio.to_thread((self._folder / key).unlink)
            return
        with self._observed():
            await obstore.delete_async(self._store, key)

    async def listed(self, prefix: str) -> AsyncIterator[Sequence[ListedFile]]:
        """All files whose keys start with the folder `prefix`, in batches.

        For a folder on disk this includes incomplete files of a process that died; a bucket discards those itself.
        """
        async for found in obstore.list(self._store, prefix, chunk_size=LISTED_AT_ONCE):
            yield [ListedFile(each["path"], each["size"], each["last_modified"]) for each in found]
        if self._folder is not None:
            yield await asyncio.to_thread(_unfinished, self._folder, prefix)

    async def list_first(self, prefix: str) -> bool:
        """Whether any key starts with the folder `prefix`. Raises TimeoutError if the store is too slow."""
        with self._observed():
            async with asyncio.timeout(self._read_limit_s):
                return await anext(aiter(obstore.list(self._store, prefix, chunk_size=1)), None) is not None

    async def head(self, key: str) -> int:
        """The size in bytes. Raises FileNotFoundError, or TimeoutError if the store is too slow."""
        with self._observed():
            async with asyncio.timeout(self._read_limit_s):
                meta = await obstore.head_async(self._store, key)
        return meta["size"]

    @contextmanager
    def _observed(self, is_others: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Note how the store was seen in the block. `is_others` says whether an error is not the store's."""
        try:
            yield
        except FileNotFoundError:
            self.dependency.works()
            raise
        except STORE_ERRORS as error:
            if not is_others():
                self.dependency.fails(failed_with(error))
            raise
        self.dependency.works()


def _modes_of_what_is_new(folder: Path) -> int:
    """The modes, one or the other, that the umask and the folder give to new folders and files.

    Raises OSError if the folder is not writable.
    """
    inner = folder / f".writable-{uuid4().hex}"
    inner.mkdir()
    path = inner / "file"
    try:
        path.touch()
        return inner.stat().st_mode | path.stat().st_mode
    finally:
        path.unlink(missing_ok=True)
        inner.rmdir()


def _close_with_parents(folder: Path, key: str) -> None:
    """Restrict a file that was just written, and the folders above it, to their owner, whatever the umask is."""
    parts = Path(key).parts
    for length in range(len(parts), 0, -1):
        close_file(folder.joinpath(*parts[:length]))


class _Measured:
    """Counts and hashes the bytes that pass into the store."""

    def __init__(self, source: AsyncIterable[bytes]) -> None:
        self._source = source
        self.failed = False
        """Whether the source has raised an error."""
        self.size_bytes = 0
        self.digest = hashlib.sha256()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._source:
                self.size_bytes += len(chunk)
                self.digest.update(chunk)
                yield chunk
        except Exception:
            self.failed = True
            raise


def _unfinished(folder: Path, prefix: str) -> list[ListedFile]:
    found: list[ListedFile] = []
    for parent, _folders, names in os.walk(folder / prefix):
        for path in (Path(parent) / name for name in names if _UNFINISHED.search(name)):
            with suppress(FileNotFoundError):  # It may be complete by now, under its final name.
                status = path.stat()
                written_at = datetime.fromtimestamp(status.st_mtime, UTC)
                found.append(ListedFile(path.relative_to(folder).as_posix(), status.st_size, written_at))
    return found


async def _chunks_of(file: BinaryIO) -> AsyncIterator[bytes]:
    chunk = await asyncio.to_thread(_first_chunk, file)
    while chunk:
        yield chunk
        # To pass a small file to a thread again costs more than to read it.
        chunk = await asyncio.to_thread(file.read, CHUNK_BYTES) if len(chunk) == CHUNK_BYTES else b""


def _first_chunk(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(CHUNK_BYTES)
