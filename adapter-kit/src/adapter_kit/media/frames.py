"""Detection of MPEG audio and AAC streams, which have no signature, by consecutive frames. Pure.

Layouts: ISO/IEC 11172-3 §2.4.1 (MPEG audio), 13818-7 §6.2 (ADTS), 14496-3 §1.7 (LOAS).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from mmap import mmap
from typing import Final

from adapter_kit.media.magic import AAC, LATM, MP3, Kind

NEEDED: Final = 4
"""How many consecutive frames identify a stream; by chance, thousands of offsets hold a single one."""
MAX_CANDIDATES: Final = 50_000
"""Limit on the offsets that are tried as the start of a frame."""
MAX_TAGS: Final = 10
SEARCHED_BYTES: Final = 1024 * 1024
"""How many bytes are searched for the first frame, after padding or other data."""

_MAYBE: Final = re.compile(rb"\xff[\xe0-\xff]|\x56[\xe0-\xff]")
_KBITS: Final = {
    # By whether it is MPEG 1, and the layer.
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ: Final = (44_100, 48_000, 32_000)
_ADTS_HERTZ: Final = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350,
)  # fmt: skip

Data = bytes | mmap
Read = Callable[[Data, int], tuple[int, object] | None]
"""Returns the length in bytes of the frame at an offset and the header fields that all frames of its stream share.

None if there is no frame.
"""


def find_frames(data: Data) -> tuple[int, Kind] | None:
    """The offset and the kind of the first stream of frames in `data`; None if there is none."""
    for tried, maybe in enumerate(_MAYBE.finditer(data)):
        if tried >= MAX_CANDIDATES:
            return None
        kind, read = _reader(data, maybe.start())
        if _is_stream(data, maybe.start(), read):
            return maybe.start(), kind
    return None


def after_tags(read: Callable[[int, int], bytes]) -> int:
    """The offset after the ID3 tags at the start of a file of any kind; `read` takes an offset and a size.

    Layout: https://id3.org/id3v2.4.0-structure, section 3.1.
    """
    start = 0
    for _ in range(MAX_TAGS):
        head = read(start, 10)
        if len(head) < 10 or not head.startswith(b"ID3") or max(head[6:10]) > 127:
            break
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        start += 10 + size + (10 if head[5] & 0x10 else 0)
    return start


def ends_with_a_frame(data: Data) -> bool:
    """Whether `data` is a stream of frames of which the last one is complete."""
    start = after_tags(lambda at, size: data[at : at + size])
    found = find_frames(data[start : start + SEARCHED_BYTES])
    if found is None:
        return False
    at = start + found[0]
    _, read = _reader(data, at)
    while (frame := read(data, at)) is not None:
        at += frame[0]
    return at == len(data) or (data[at : at + 3] == b"TAG" and at + 128 == len(data))


def adts_seconds(data: Data, at: int) -> float | None:
    """The duration in seconds of the AAC stream at an offset; None if there is none."""
    frames = 0
    first = data[at : at + 3]
    while (frame := _adts(data, at)) is not None:
        at, frames = at + frame[0], frames + 1
    if not frames or first[2] >> 2 & 15 >= len(_ADTS_HERTZ):
        return None
    return frames * 1024 / _ADTS_HERTZ[first[2] >> 2 & 15]


def _reader(data: Data, at: int) -> tuple[Kind, Read]:
    if data[at] == 0x56:
        return LATM, _loas
    return (MP3, _mpeg) if data[at + 1] & 0x06 else (AAC, _adts)


def _is_stream(data: Data, at: int, read: Read) -> bool:
    start, count, common = at, 0, None
    while count < NEEDED:
        frame = read(data, at)
        if frame is None:
            # A short file may hold fewer frames; it ends after a frame or within one.
            return count >= 2 and (at == len(data) or (start == 0 and len(data) - at < 8))
        length, same = frame
        if common is not None and same != common:
            return False
        at, count, common = at + length, count + 1, same
        if at >= len(data):
            return count >= 2 or start == 0
    return True


def _mpeg(data: Data, at: int) -> tuple[int, object] | None:
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate, hertz = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or rate in (0, 15) or hertz == 3:
        return None
    first = version == 3
    per_second = _HERTZ[hertz] >> (0 if first else 1 if version == 2 else 2)
    bits = _KBITS[first, layer][rate] * 1000
    padding = head[2] >> 1 & 1
    if layer == 1:
        length = (12 * bits // per_second + padding) * 4
    else:
        length = (72 if layer == 3 and not first else 144) * bits // per_second + padding
    return length, (version, layer, hertz)


def _adts(data: Data, at: int) -> tuple[int, object] | None:
    head = data[at : at + 7]
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return None
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return (length, (head[1], head[2] & 0xFC)) if length > 7 else None


def _loas(data: Data, at: int) -> tuple[int, object] | None:
    head = data[at : at + 3]
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return None
    length = (head[1] & 0x1F) << 8 | head[2]
    return (length + 3, None) if length > 1 else None
