"""Whether a file is complete according to its own structure, for use where its declared length is unreliable."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from adapter_kit.media.frames import Data, ends_with_a_frame
from adapter_kit.media.mapping import mapped

MAX_BOXES: Final = 100_000
_CHUNKED: Final = (b"RIFF", b"RIFX", b"FORM")


def is_whole(file: BinaryIO) -> bool:
    """Whether the file, which is not empty, ends where its structure ends; False if that is unknown. Blocks."""
    with mapped(file) as data:
        return any(ends(data) for ends in _ENDS)


def _chunked(data: Data) -> bool:
    size = int.from_bytes(data[4:8], "little" if data[:4] == b"RIFF" else "big")
    # An odd size may have been padded.
    return data[:4] in _CHUNKED and 0 <= len(data) - size - 8 <= 1


def _boxed(data: Data) -> bool:
    if data[4:8] not in (b"ftyp", b"moov", b"wide", b"mdat"):
        return False
    at, names = 0, set()
    for _ in range(MAX_BOXES):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        names.add(bytes(data[at + 4 : at + 8]))
        if size < 8 or at + size >= len(data):
            return at + size == len(data) and b"moov" in names
        at += size
    return False


def _paged(data: Data) -> bool:
    at = data.rfind(b"OggS\0")
    if data[:4] != b"OggS" or at < 0 or at + 27 > len(data):
        return False
    segments = data[at + 26]
    body = sum(data[at + 27 : at + 27 + segments])
    return bool(data[at + 5] & 4) and at + 27 + segments + body == len(data)


def _png(data: Data) -> bool:
    return data[:4] == b"\x89PNG" and data[-8:-4] == b"IEND"


def _jpeg(data: Data) -> bool:
    return data[:3] == b"\xff\xd8\xff" and data[-2:] == b"\xff\xd9"


def _gif(data: Data) -> bool:
    return data[:4] == b"GIF8" and data[-1:] == b"\x3b"


_ENDS: Final[tuple[Callable[[Data], bool], ...]] = (_chunked, _boxed, ends_with_a_frame, _paged, _png, _jpeg, _gif)
