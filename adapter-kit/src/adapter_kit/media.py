"""What a file that a provider returned really is: told from its bytes, whatever its name and headers say."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import puremagic
from mutagen.mp3 import MPEGInfo
from mutagen.ogg import OggPage

from contracts.generation import Modality

HEAD_BYTES: Final = 4096
MAX_CHUNKS: Final = 10_000
"""How many parts of a file are stepped over in search of the one that tells its size."""


class Unusable(Exception):
    """What came is not the media asked for; the text says what it is instead."""


@dataclass(frozen=True, slots=True)
class Media:
    """A file of a known kind, measured: audio in seconds, images in pixels."""

    content_type: str
    extension: str
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None


# A closed list rather than whatever is called audio or image: SVG, for one, is an image that runs scripts.
_SIGNATURES: Final = tuple(
    (re.compile(pattern, re.DOTALL), content_type, extension)
    for pattern, content_type, extension in (
        (rb"RIFF....WAVE", "audio/wav", "wav"),
        (rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", "audio/mpeg", "mp3"),
        (rb"fLaC[\x00\x80]", "audio/flac", "flac"),
        (rb"OggS\x00\x02.{22}(OpusHead|\x01vorbis)", "audio/ogg", "ogg"),
        (rb"....ftypM4[AB] ", "audio/mp4", "m4a"),
        (rb"\xff[\xf0\xf1\xf8\xf9]", "audio/aac", "aac"),
        (rb"FORM....AIF[FC]", "audio/aiff", "aiff"),
        (rb"\x89PNG\r\n\x1a\n", "image/png", "png"),
        (rb"\xff\xd8\xff", "image/jpeg", "jpg"),
        (rb"RIFF....WEBP", "image/webp", "webp"),
        (rb"GIF8[79]a", "image/gif", "gif"),
    )
)
_PREFIX: Final[Mapping[Modality, str]] = {"music": "audio/", "image": "image/"}


def inspect(path: Path, modality: Modality) -> Media:
    """What `path` holds. Raises Unusable if that is not whole media of this modality. Blocks."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        content_type, extension = _recognise(head)
        if not content_type.startswith(_PREFIX[modality]):
            raise Unusable(f"not {_PREFIX[modality]}* but {content_type}")
        file.seek(0)
        try:
            if modality == "image":
                width, height = _SIZES[content_type](file)
                return Media(content_type, extension, width=_pixels(width), height=_pixels(height))
            measure = _SECONDS.get(content_type)
            return Media(content_type, extension, duration_s=_audible(measure(file)) if measure else None)
        except Unusable:
            raise
        except Exception as error:
            # Hostile bytes make parsers fail in any way, and all ways mean the same.
            raise Unusable(f"damaged {content_type}") from error


def _recognise(head: bytes) -> tuple[str, str]:
    if not head:
        raise Unusable("an empty file")
    for pattern, content_type, extension in _SIGNATURES:
        if pattern.match(head):
            return content_type, extension
    try:
        guess = puremagic.magic_string(head)[0]
    except (puremagic.PureError, ValueError):
        raise Unusable("not media, but something unknown") from None
    raise Unusable(f"not media that Segue keeps, but {guess.mime_type or guess.extension or 'something unknown'}")


def _audible(seconds: float | None) -> float | None:
    if seconds is not None and seconds <= 0:
        raise Unusable("audio without any sound in it")
    return seconds and round(seconds, 3)


def _pixels(length: int) -> int:
    if not 1 <= length < 2**31:
        raise Unusable(f"an image that claims to be {length} pixels wide or high")
    return length


def _wav_seconds(file: BinaryIO) -> float:
    end = file.seek(0, 2)
    file.seek(12)
    bytes_per_second = 0
    for _ in range(MAX_CHUNKS):
        name, size = struct.unpack("<4sI", file.read(8))
        start = file.tell()
        if name == b"fmt ":
            (bytes_per_second,) = struct.unpack("<8xI", file.read(12))
        elif name == b"data":
            # Writers that could not seek back leave 0 or the largest size: then the sound goes on to the end.
            return min(size or end - start, end - start) / bytes_per_second
        file.seek(start + size + size % 2)
    raise Unusable("audio without any sound in it")


def _flac_seconds(file: BinaryIO) -> float | None:
    packed = int.from_bytes(file.read(26)[18:26], "big")
    # No samples means that the writer did not know how many.
    return (packed & 0xF_FFFF_FFFF) / (packed >> 44) or None


def _mp3_seconds(file: BinaryIO) -> float:
    # Only the stream is read: tags may be compressed, and grow without bound when they are opened.
    return float(MPEGInfo(file).length)


def _ogg_seconds(file: BinaryIO) -> float:
    head = file.read(64)
    (serial,) = struct.unpack_from("<I", head, 14)
    if head[28:36] == b"OpusHead":
        rate, skipped = 48_000, struct.unpack_from("<H", head, 38)[0]
    else:
        rate, skipped = struct.unpack_from("<I", head, 40)[0], 0
    last = OggPage.find_last(file, serial, finishing=True)
    return float(last.position - skipped) / rate


def _png_size(file: BinaryIO) -> tuple[int, int]:
    width, height = struct.unpack(">16x2I", file.read(24))
    return width, height


def _gif_size(file: BinaryIO) -> tuple[int, int]:
    width, height = struct.unpack("<6x2H", file.read(10))
    return width, height


def _webp_size(file: BinaryIO) -> tuple[int, int]:
    head = file.read(30)
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            packed = int.from_bytes(head[21:25], "little")
            return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        case b"VP8 " if head[23:26] == b"\x9d\x01\x2a":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
        case _:
            raise Unusable("damaged image/webp")


_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    file.seek(2)
    for _ in range(MAX_CHUNKS):
        fill, marker = struct.unpack("2B", file.read(2))
        if fill != 0xFF:
            break
        if marker == 0xFF:
            file.seek(-1, 1)
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">x2H", file.read(5))
            return width, height
        file.seek(length - 2, 1)
    raise Unusable("damaged image/jpeg")


_SECONDS: Final[Mapping[str, Callable[[BinaryIO], float | None]]] = {
    "audio/wav": _wav_seconds,
    "audio/mpeg": _mp3_seconds,
    "audio/flac": _flac_seconds,
    "audio/ogg": _ogg_seconds,
}
_SIZES: Final[Mapping[str, Callable[[BinaryIO], tuple[int, int]]]] = {
    "image/png": _png_size,
    "image/jpeg": _jpeg_size,
    "image/webp": _webp_size,
    "image/gif": _gif_size,
}
