"""All bytes of a file at once, without a copy of them in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from mmap import ACCESS_READ, mmap
from typing import BinaryIO

from adapter_kit.media.frames import Data


@contextmanager
def mapped(file: BinaryIO) -> Iterator[Data]:
    """The bytes of a file on disk, which is not empty, or of a BytesIO."""
    if isinstance(file, BytesIO):
        yield file.getvalue()
        return
    with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        yield data
