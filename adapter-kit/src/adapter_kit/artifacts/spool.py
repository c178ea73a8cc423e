"""The bytes of one output: in memory while they are few, and in a temporary file once they are more."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from io import SEEK_END, BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final, Self

HELD_BYTES: Final = 256 * 1024
"""The largest output that is only kept in memory. Of a larger one, as many bytes are held before they are written."""
_PIECE_BYTES: Final = 64 * 1024


class Spool:
    """Takes bytes in their order, and gives them back with their hash.

    The file has no name, so that only this process can access it, and it disappears when it is closed or the process
    ends. If it is closed while a thread uses it, the thread fails with ValueError or OSError.
    """

    def __init__(self, folder: Path | None) -> None:
        """`folder` is that of the temporary file; None: the system's."""
        self._folder = folder
        self._held = bytearray()
        self._file: BinaryIO | None = None
        self._written = hashlib.sha256()
        self._closed = False
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file. What could not be written to it is not needed any more, so that no error is raised."""
        self._closed = True
        self._drop_file()
        # An error that is kept may have frames that hold the spool.
        self._held = bytearray()

    def hold(self, data: bytes | bytearray | memoryview) -> bool:
        """Append in memory; returns whether `write` has to be called before more is appended."""
        self._held += data
        self.size += len(data)
        return len(self._held) > HELD_BYTES

    def write(self) -> None:
        """Write what is held to the file. Raises OSError. Blocks."""
        file = self._file or self._taken(TemporaryFile(dir=self._folder))  # noqa: SIM115 - it is closed with the spool
        file.seek(0, SEEK_END)
        file.write(self._held)
        self._written.update(self._held)
        self._held = bytearray()

    def append(self, data: bytes) -> None:
        """Append, and write as often as necessary. Raises OSError. Blocks."""
        whole = memoryview(data)
        for at in range(0, len(whole), _PIECE_BYTES):
            if self.hold(whole[at : at + _PIECE_BYTES]):
                self.write()

    def clear(self) -> None:
        """Discard everything."""
        self._drop_file()
        self._held, self._written, self.size = bytearray(), hashlib.sha256(), 0

    def empty(self) -> Spool:
        """A new spool with the same folder."""
        return Spool(self._folder)

    def replace(self, other: Spool) -> None:
        """Take the content of `other`, which must not be used any more, in the place of this one's."""
        self.clear()
        self._held, self._written, self.size = other._held, other._written, other.size
        file, other._file = other._file, None
        if file is not None:
            self._taken(file)

    def content(self) -> bytes | BinaryIO:
        """All bytes, or the file with all of them, at its beginning. Raises OSError. Blocks."""
        if self._file is None:
            return bytes(self._held)
        if self._held:
            self.write()
        self._file.seek(0)
        return self._file

    def file(self) -> BinaryIO:
        """The content as a file. Raises OSError. Blocks."""
        content = self.content()
        return BytesIO(content) if isinstance(content, bytes) else content

    def sha256(self) -> str:
        """The hash of all bytes. Blocks."""
        digest = self._written.copy()
        digest.update(self._held)
        return digest.hexdigest()

    def _taken(self, file: BinaryIO) -> BinaryIO:
        self._file = file
        # The task may have closed the spool while a thread made the file.
        if self._closed:
            self._drop_file()
            raise ValueError("the spool is closed")
        return file

    def _drop_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
