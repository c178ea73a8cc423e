"""Generated media files: a tone of any length and a gradient of any size, different for each seed."""

import array
import io
import math
import struct
import sys
import wave
import zlib
from functools import lru_cache

RATE = 22_050
"""Samples per second, 16-bit mono."""

_BEAT = 2
_FADE = RATE // 4
_PROGRESSIONS = ((0, 5, 9, 7), (0, 9, 5, 7), (0, 4, 9, 5), (9, 5, 0, 7))


@lru_cache(maxsize=1)
def _sine() -> list[int]:
    # A third of full scale for four voices, so that nothing clips.
    return [round(7_000 * math.sin(2 * math.pi * i / RATE)) for i in range(RATE)]


@lru_cache(maxsize=128)
def _tone(hertz: int) -> list[int]:
    # Frequencies in whole Hz are at zero at every full second, so seconds join without a click.
    table = _sine()
    return [table[i % RATE] for i in range(0, hertz * RATE, hertz)]


@lru_cache(maxsize=64)
def _chord(root: int, minor: bool) -> "array.array[int]":
    voices = (root, root + 1, round(root * (1.2 if minor else 1.25)), round(root * 1.5))
    return array.array("h", [a + b + c + d for a, b, c, d in zip(*map(_tone, voices), strict=True)])


def sound_bytes(milliseconds: int) -> int:
    """The size in bytes of a sound of that length."""
    return 44 + 2 * (milliseconds * RATE // 1000)


@lru_cache(maxsize=8)
def sound(seed: int, milliseconds: int) -> bytes:
    """A WAV file with a slow chord progression."""
    frames = milliseconds * RATE // 1000
    steps = _PROGRESSIONS[seed % len(_PROGRESSIONS)]
    root = 110 + seed // 7 % 12 * 5
    samples = array.array("h")
    for step in steps:
        samples += _chord(round(root * 2 ** (step / 12)), minor=step in (4, 9)) * _BEAT
    samples *= frames // len(samples) + 1
    del samples[frames:]
    fade = min(_FADE, frames // 2)
    for i in range(fade):
        samples[i] = samples[i] * i // fade
        samples[-1 - i] = samples[-1 - i] * i // fade
    if sys.byteorder == "big":
        samples.byteswap()
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return out.getvalue()


@lru_cache(maxsize=16)
def picture(seed: int, width: int, height: int) -> bytes:
    """A PNG file with a diagonal gradient between two colours."""
    length = width + height
    one, two = seed.to_bytes(8, "big")[2:5], seed.to_bytes(8, "big")[5:8]
    strip = bytes((one[c] * (length - i) + two[c] * i) // length for i in range(length) for c in range(3))
    rows = b"".join(b"\0" + strip[3 * y : 3 * (y + width)] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows, 1)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
