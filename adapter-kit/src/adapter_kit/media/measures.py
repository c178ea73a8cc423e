"""The duration of an audio file in seconds and the dimensions of an image in pixels, read from the file.

Most need only a few bytes at known offsets. Libraries cost too much on malicious files: they decompress tags, or read
each of millions of parts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Final

from mutagen.mp3 import MPEGInfo

from adapter_kit.media import magic
from adapter_kit.media.containers import Truncated
from adapter_kit.media.frames import adts_seconds
from adapter_kit.media.magic import Kind
from adapter_kit.media.mapping import mapped

MAX_CHUNKS: Final = 10_000
"""Limit on the parts that are skipped in search of the one with the size."""
OPEN_ENDED: Final = 0x7FFF_0000
"""Sizes from here on mean "to the end of the file": the writer could not seek back to write the size."""
TAIL_BYTES: Final = 128 * 1024
SSND_HEAD_BYTES: Final = 8
"""The offset and the block size before the sound of an AIFF file."""

Seconds = Callable[[BinaryIO, int], float | None]
Pixels = Callable[[BinaryIO, int], tuple[int, int] | None]


class NoSound(Exception):
    """The file contains no audio."""


def wav_seconds(file: BinaryIO, start: int) -> float | None:
    """RIFF, RIFX, RF64 and BW64 (EBU Tech 3306): the size of the data divided by the byte rate.

    Raises NoSound if there is no data, and Truncated.
    """
    end = file.seek(0, 2)
    file.seek(start)
    order = ">" if file.read(4) == b"RIFX" else "<"
    per_second, long_size = 0, None
    for name, at, size in _chunks(file, start + 12, order):
        if name == b"ds64":
            (long_size,) = struct.unpack("<8xQ", _exactly(file, 16))
        elif name == b"fmt ":
            (per_second,) = struct.unpack(f"{order}8xI", _exactly(file, 12))
        elif name == b"data":
            declared = size if long_size is None or size != 0xFFFF_FFFF else long_size
            # Writers that cannot seek back leave 0 or the largest size: the data extends to the end of the file.
            open_ended = declared == 0 or (long_size is None and declared >= OPEN_ENDED)
            wanted = end - at if open_ended else declared
            _check_complete(wanted, end - at)
            return min(wanted, end - at) / per_second if per_second else None
    raise NoSound


def aiff_seconds(file: BinaryIO, start: int) -> float | None:
    """AIFF and AIFF-C: the number of frames divided by the sample rate, an 80-bit float. Raises Truncated.

    None if the header names no frames and the file has some: its writer could not seek back to write their number.
    """
    seconds = None
    end = file.seek(0, 2)
    for name, at, size in _chunks(file, start + 12, ">"):
        if name == b"COMM":
            frames, exponent, mantissa = struct.unpack(">2xI2xHQ", _exactly(file, 18))
            rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16_383 - 63)
            seconds = frames / rate if rate else None
        elif name == b"SSND":
            _check_complete(size, end - at)
            if seconds == 0 and end - at > SSND_HEAD_BYTES:
                return None
            if seconds is not None:
                break
    return seconds


def _check_complete(wanted: int, there: int) -> None:
    # Some writers declare a few bytes too many.
    if wanted - there > max(4096, wanted // 100):
        raise Truncated


def _chunks(file: BinaryIO, start: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(MAX_CHUNKS):
        file.seek(start)
        head = file.read(8)
        if len(head) < 8:
            return
        name, size = struct.unpack(f"{order}4sI", head)
        yield name, start + 8, size
        start += 8 + size + size % 2


def flac_seconds(file: BinaryIO, start: int) -> float | None:
    """The number of samples divided by the sample rate; None if the header leaves the number open."""
    file.seek(start + 18)
    packed = int.from_bytes(_exactly(file, 8), "big")
    rate, samples = packed >> 44, packed & 0xF_FFFF_FFFF
    return samples / rate if rate and samples else None


def ogg_seconds(file: BinaryIO, start: int) -> float | None:
    """The end position of the stream's last page divided by the codec's sample rate (RFC 3533, 7845)."""
    file.seek(start)
    head = file.read(128)
    (serial,) = struct.unpack_from("<I", head, 14)
    skipped = 0
    match head[28:35]:
        case b"OpusHea":
            rate, skipped = 48_000, struct.unpack_from("<H", head, 38)[0]
        case b"\x01vorbis":
            (rate,) = struct.unpack_from("<I", head, 40)
        case b"Speex  ":
            (rate,) = struct.unpack_from("<I", head, 64)
        case b"\x7fFLAC\1\0":
            rate = int.from_bytes(head[55:58], "big") >> 4
        case _:
            return None
    size = file.seek(0, 2)
    file.seek(max(start, size - TAIL_BYTES))
    tail = file.read(TAIL_BYTES)
    at = len(tail)
    while (at := tail.rfind(b"OggS\0", 0, at)) >= 0:
        page = tail[at : at + 18]
        if len(page) == 18 and struct.unpack_from("<I", page, 14)[0] == serial:
            (position,) = struct.unpack_from("<q", page, 6)
            return (position - skipped) / rate if rate and position > 0 else None
    return None


def mp3_seconds(file: BinaryIO, start: int) -> float | None:
    """The duration from the number of frames in the first frame's header, or else from the bit rate.

    None if that header leaves the number open.
    """
    file.seek(start)
    # Tags are not read: they may be compressed, and their decompressed size is unbounded.
    # A header that names no frames is one whose writer could not seek back to write their number.
    return float(MPEGInfo(file, start).length) or None


def aac_seconds(file: BinaryIO, start: int) -> float | None:
    """The duration from the number of frames, which all have the same length."""
    with mapped(file) as data:
        return adts_seconds(data, start)


def png_pixels(file: BinaryIO, start: int) -> tuple[int, int] | None:
    """The size in the header. Raises Truncated if the last chunk is missing."""
    end = file.seek(0, 2)
    size = None
    for name, at, length in _png_chunks(file, start + 8):
        if name == b"IHDR":
            size = _pair(">2I", file, 8)
        if name == b"IEND":
            return size
        if at + length + 4 > end:
            raise Truncated
    raise Truncated


def _png_chunks(file: BinaryIO, start: int) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(MAX_CHUNKS):
        file.seek(start)
        head = file.read(8)
        if len(head) < 8:
            return
        length, name = struct.unpack(">I4s", head)
        yield name, start + 8, length
        start += 12 + length
    raise ValueError("a PNG of too many chunks")


def gif_pixels(file: BinaryIO, start: int) -> tuple[int, int] | None:
    """The size of the logical screen."""
    file.seek(start + 6)
    return _pair("<2H", file, 4)


def webp_pixels(file: BinaryIO, start: int) -> tuple[int, int] | None:
    """The size of the canvas, in each of the three codings."""
    end = file.seek(0, 2)
    file.seek(start)
    head = _exactly(file, 25) + file.read(5)
    _check_complete(int.from_bytes(head[4:8], "little") + 8, end - start)
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            packed = int.from_bytes(head[21:25], "little")
            return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        case b"VP8 " if head[23:26] == b"\x9d\x01\x2a":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
        case _:
            return None


_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def jpeg_pixels(file: BinaryIO, start: int) -> tuple[int, int] | None:
    """The size of the first frame."""
    file.seek(start + 2)
    for _ in range(MAX_CHUNKS):
        fill, marker = _exactly(file, 2)
        if fill != 0xFF:
            return None
        if marker == 0xFF:
            file.seek(-1, 1)
            continue
        (length,) = struct.unpack(">H", _exactly(file, 2))
        if marker in _JPEG_FRAMES:
            _exactly(file, 1)
            height, width = struct.unpack(">2H", _exactly(file, 4))
            return width, height
        file.seek(length - 2, 1)
    return None


def bmp_pixels(file: BinaryIO, start: int) -> tuple[int, int] | None:
    """The size in the header, of the old or the new format; a negative height means that rows are stored top-down."""
    file.seek(start + 14)
    (header,) = struct.unpack("<I", _exactly(file, 4))
    width, height = _pair("<2H", file, 4) if header == 12 else _pair("<2i", file, 8)
    return width, abs(height)


def _pair(layout: str, file: BinaryIO, size: int) -> tuple[int, int]:
    one, other = struct.unpack(layout, _exactly(file, size))
    return one, other


def _exactly(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise Truncated
    return found


SECONDS: Final[Mapping[Kind, Seconds]] = {
    magic.WAV: wav_seconds,
    magic.MP3: mp3_seconds,
    magic.AAC: aac_seconds,
    magic.FLAC: flac_seconds,
    magic.OGG: ogg_seconds,
    magic.AIFF: aiff_seconds,
}
PIXELS: Final[Mapping[Kind, Pixels]] = {
    magic.PNG: png_pixels,
    magic.JPEG: jpeg_pixels,
    magic.WEBP: webp_pixels,
    magic.GIF: gif_pixels,
    magic.BMP: bmp_pixels,
}
