"""The tracks and the duration of MP4 and Matroska files, whose signature is the same for audio, video and images.

Formats: ISO base media files (ISO/IEC 14496-12, with QuickTime and HEIF) and Matroska (RFC 9559, with WebM). The number
of parts that are read is bounded, and malformed parts end the reading.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

MAX_PARTS: Final = 10_000
"""Limit on the boxes or elements that are read in one file."""
MAX_PART_BYTES: Final = 64 * 1024
"""Limit on the bytes that are read of a part's content."""


class Truncated(Exception):
    """The file is truncated: its headers declare more bytes than it has."""


@dataclass(slots=True)
class Contents:
    """The contents of a container."""

    brand: str = ""
    """MP4: the major brand; Matroska: the document type."""
    brands: set[str] = field(default_factory=set)
    """MP4: all brands."""
    sound: bool = False
    picture: bool = False
    """Whether it has a video track."""
    seconds: float | None = None
    size: tuple[int, int] | None = None
    """Width and height of a still image in pixels."""


@dataclass(frozen=True, slots=True)
class _Part:
    name: bytes
    start: int
    end: int


class _Budget:
    def __init__(self) -> None:
        self._left = MAX_PARTS

    def spend(self) -> bool:
        self._left -= 1
        return self._left >= 0


def boxes_in(file: BinaryIO, start: int) -> Contents:
    """The contents of an ISO base media file that starts at `start`. Raises Truncated, struct.error."""
    contents, budget, end = Contents(), _Budget(), _size_of(file)
    indexed = False
    for box in _boxes(file, start, end, budget):
        if box.end > end:
            if box.name not in _NEEDED:
                break  # Incomplete padding, or stray bytes after the last box.
            _check_nearly_complete(box, end)
        match box.name:
            case b"ftyp" | b"styp":
                names = _read(file, box)
                contents.brand = contents.brand or names[:4].decode("latin-1")
                contents.brands |= {names[at : at + 4].decode("latin-1") for at in range(0, min(len(names), 256), 4)}
            case b"moov":
                indexed = True
                _read_movie(file, box, end, contents, budget)
            case b"meta":
                indexed = True
                contents.size = _largest(
                    _picture_sizes(file, _Part(box.name, box.start + 4, min(box.end, end)), budget)
                )
            case b"moof":
                indexed = True
    if not indexed and budget.spend():
        _read_last_movie(file, start, end, contents, budget)
    return contents


_NEEDED: Final = frozenset({b"moov", b"moof", b"meta", b"mdat"})
"""Boxes without which the media cannot be played or shown."""
TAIL_BYTES: Final = 4 * 1024 * 1024
"""How many bytes at the end of a file are searched for an index."""
TOLERATED_BYTES: Final = 4096
TOLERATED_PART: Final = 100
TOLERATED_PART_OF_SMALL: Final = 8
"""At most one in so many bytes of a small part may be missing."""


def _check_nearly_complete(part: _Part, end: int) -> None:
    # Some writers declare a few bytes too many.
    wanted, missing = part.end - part.start, part.end - end
    if missing > min(max(TOLERATED_BYTES, wanted // TOLERATED_PART), wanted // TOLERATED_PART_OF_SMALL):
        raise Truncated


def _read_movie(file: BinaryIO, movie: _Part, end: int, contents: Contents, budget: _Budget) -> None:
    for box in _boxes(file, movie.start, min(movie.end, end), budget):
        if box.name == b"mvhd":
            contents.seconds = _movie_seconds(_read(file, box))
        elif box.name == b"trak":
            handlers = set(_handlers(file, box, budget))
            contents.sound |= b"soun" in handlers
            contents.picture |= b"vide" in handlers
    if movie.end > end and not (contents.sound or contents.picture):
        raise Truncated


def _read_last_movie(file: BinaryIO, start: int, end: int, contents: Contents, budget: _Budget) -> None:
    """Read the index at the end of the file, which a box of the wrong length before it hides."""
    base = max(start, end - TAIL_BYTES)
    file.seek(base)
    tail = file.read(TAIL_BYTES)
    at = tail.rfind(b"moov")
    if at >= 4:
        size = int.from_bytes(tail[at - 4 : at], "big")
        _read_movie(file, _Part(b"moov", base + at + 4, base + at - 4 + size), end, contents, budget)
    if not (contents.sound or contents.picture):
        raise Truncated


def _movie_seconds(header: bytes) -> float | None:
    scale, length = struct.unpack_from(">IQ" if header[0] == 1 else ">II", header, 20 if header[0] == 1 else 12)
    unknown = 2**64 - 1 if header[0] == 1 else 2**32 - 1
    # A fragmented file declares its duration in the fragments.
    return length / scale if scale and length not in (0, unknown) else None


def _handlers(file: BinaryIO, track: _Part, budget: _Budget) -> Iterator[bytes]:
    for box in _boxes(file, track.start, track.end, budget):
        if box.name == b"mdia":
            for inner in _boxes(file, box.start, box.end, budget):
                if inner.name == b"hdlr":
                    yield _read(file, inner)[8:12]


def _picture_sizes(file: BinaryIO, parent: _Part, budget: _Budget) -> Iterator[tuple[int, int]]:
    for box in _boxes(file, parent.start, parent.end, budget):
        if box.name == b"iprp" or box.name == b"ipco":
            yield from _picture_sizes(file, box, budget)
        elif box.name == b"ispe":
            yield struct.unpack_from(">II", _read(file, box), 4)


def _largest(sizes: Iterator[tuple[int, int]]) -> tuple[int, int] | None:
    # The tiles and the thumbnail of an image have sizes of their own.
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _boxes(file: BinaryIO, start: int, end: int, budget: _Budget) -> Iterator[_Part]:
    while start + 8 <= end and budget.spend():
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            (size,), head = struct.unpack(">Q", file.read(8)), 16
        elif size == 0:
            size = end - start
        if size < head:
            return
        yield _Part(name, start + head, start + size)
        start += size


def elements_in(file: BinaryIO, start: int) -> Contents:
    """The contents of a Matroska file that starts at `start`. Raises Truncated, struct.error, IndexError."""
    contents, budget, end = Contents(), _Budget(), _size_of(file)
    for top in _elements(file, start, end, budget):
        if top.name == _EBML:
            types = (each for each in _elements(file, top.start, top.end, budget) if each.name == _DOC_TYPE)
            contents.brand = next((_read(file, each).rstrip(b"\0").decode("latin-1") for each in types), "")
        elif top.name == _SEGMENT:
            if top.end > end:
                _check_nearly_complete(top, end)
            _read_segment(file, top, contents, budget)
            return contents
    if not budget.spend():
        return contents
    raise Truncated


def _read_segment(file: BinaryIO, segment: _Part, contents: Contents, budget: _Budget) -> None:
    for each in _elements(file, segment.start, segment.end, budget):
        if each.name == _INFO:
            contents.seconds = _segment_seconds(file, each, budget)
        elif each.name == _TRACKS:
            entries = [entry for entry in _elements(file, each.start, each.end, budget) if entry.name == _TRACK]
            kinds = {kind for entry in entries for kind in _track_types(file, entry, budget)}
            contents.picture, contents.sound = 1 in kinds, 2 in kinds
        elif each.name == _CLUSTER:
            return


def _segment_seconds(file: BinaryIO, info: _Part, budget: _Budget) -> float | None:
    scale, length = 1_000_000, None
    for each in _elements(file, info.start, info.end, budget):
        if each.name == _SCALE:
            scale = int.from_bytes(_read(file, each), "big")
        elif each.name == _DURATION:
            (length,) = struct.unpack(">f" if each.end - each.start == 4 else ">d", _read(file, each))
    return None if length is None else length * scale / 1e9


def _track_types(file: BinaryIO, entry: _Part, budget: _Budget) -> Iterator[int]:
    for each in _elements(file, entry.start, entry.end, budget):
        if each.name == _TRACK_TYPE:
            yield int.from_bytes(_read(file, each), "big")


def _elements(file: BinaryIO, start: int, end: int, budget: _Budget) -> Iterator[_Part]:
    while start + 2 <= end and budget.spend():
        file.seek(start)
        head = file.read(12)
        name_bytes = 9 - head[0].bit_length() if head[0] else 9
        if name_bytes > 4 or name_bytes >= len(head):
            return
        first = head[name_bytes]
        size_bytes = 9 - first.bit_length()
        if size_bytes > 8:
            return
        packed = int.from_bytes(head[name_bytes : name_bytes + size_bytes], "big")
        unknown = (1 << 7 * size_bytes) - 1
        size = packed & unknown
        body = start + name_bytes + size_bytes
        yield _Part(head[:name_bytes], body, end if size == unknown else body + size)
        if size == unknown:
            return
        start = body + size


_EBML, _DOC_TYPE = b"\x1a\x45\xdf\xa3", b"\x42\x82"
_SEGMENT, _CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
_INFO, _SCALE, _DURATION = b"\x15\x49\xa9\x66", b"\x2a\xd7\xb1", b"\x44\x89"
_TRACKS, _TRACK, _TRACK_TYPE = b"\x16\x54\xae\x6b", b"\xae", b"\x83"


def _read(file: BinaryIO, part: _Part) -> bytes:
    file.seek(part.start)
    return file.read(min(part.end - part.start, MAX_PART_BYTES))


def _size_of(file: BinaryIO) -> int:
    return file.seek(0, 2)
