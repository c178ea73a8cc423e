"""Compressed and framed bodies made plain, a piece at a time: of HTTP answers, and of files that came so.

A header that names a coding is taken for a hint: the bytes say whether they are coded. Pure. Codings: RFC 9110 §8.4.1,
RFC 7932 (br), RFC 8878 (zstd); aws-chunked is S3's framing of signed uploads, which some stores hand out as it came
(https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html).
"""

from __future__ import annotations

import re
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES: Final = 256 * 1024
"""The most that a decoder hands out at a time, however little it was given."""
MAX_CODINGS: Final = 4
_FED_BYTES: Final = 4096
"""How much a decoder of parts is given at a time."""

_NAMES: Final = {"x-gzip": "gzip", "x-deflate": "deflate", "zstandard": "zstd", "x-zstd": "zstd", "brotli": "br"}
_KNOWN: Final = frozenset({"gzip", "deflate", "br", "zstd", "aws-chunked"})
_MARKED: Final = (
    (re.compile(rb"\x1f\x8b\x08"), "gzip"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd"),
    (re.compile(rb"[0-9a-fA-F]{1,8}(;[\x20-\x7e]{0,500})?\r\n"), "aws-chunked"),
)
_UNMARKED: Final = frozenset({"deflate", "br"})


class Damaged(Exception):
    """The bytes are not coded as they seemed to be, or break off."""


class Decoder(Protocol):
    """Makes one body plain."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The next plain pieces. Raises Damaged."""
        ...

    def finish(self) -> None:
        """The body has ended. Raises Damaged if it breaks off."""
        ...


def codings_of(content_encoding: str) -> list[str]:
    """The codings that a header names, in the order in which they were applied; what is none is left out."""
    named = (each.strip().lower() for each in content_encoding.split(","))
    return [coding for each in named if (coding := _NAMES.get(each, each)) in _KNOWN][:MAX_CODINGS]


def coding_of(head: bytes, named: list[str]) -> str | None:
    """The coding that the first bytes of a body show; of those that show nothing, the last one that was `named`."""
    marked = next((coding for mark, coding in _MARKED if mark.match(head)), None)
    if marked is not None:
        return marked
    return next((coding for coding in reversed(named) if coding in _UNMARKED), None)


def decoder_for(coding: str, head: bytes) -> Decoder:
    """A decoder for a body of one of the known codings that begins with `head`."""
    match coding:
        case "gzip":
            return _Zlib(zlib.MAX_WBITS | 16)
        case "deflate":
            # With the header that the RFC wants, or without, as some servers send it.
            wrapped = len(head) > 1 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0
            return _Zlib(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
        case _:
            return _AwsChunked()


class _Parted(ABC):
    """A body of one part after another, each with a mark at its start; what follows without one is padding."""

    def __init__(self, mark: bytes | None) -> None:
        """Without a `mark`, there is one part only."""
        self._mark = mark
        self._held = b""
        self._over = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        # A part hands back what it leaves over as a copy: of small parts in one large piece that would be the square.
        for at in range(0, len(data), _FED_BYTES):
            yield from self._feed(data[at : at + _FED_BYTES])

    def _feed(self, data: bytes) -> Iterator[bytes]:
        while not self._over:
            if self._ended():
                data, self._held = self._held + data, b""
                if self._mark is None or not data.startswith(self._mark):
                    self._hold(data)
                    return
                self._begin()
            plain, data = self._undo(data)
            if plain:
                yield plain
            elif not data and not self._ended():
                return

    def _hold(self, data: bytes) -> None:
        # A mark may be cut in two by the end of a piece.
        self._over = self._mark is None or not self._mark.startswith(data)
        self._held = b"" if self._over else data

    def finish(self) -> None:
        if not self._ended():
            raise Damaged("it breaks off")

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _ended(self) -> bool: ...

    @abstractmethod
    def _undo(self, data: bytes) -> tuple[bytes, bytes]:
        """Some of the plain bytes, and what is left of the coded ones."""


class _Zlib(_Parted):
    def __init__(self, wbits: int) -> None:
        super().__init__(b"\x1f\x8b" if wbits >= 16 else None)
        self._wbits = wbits
        self._begin()

    def _begin(self) -> None:
        self._stream = zlib.decompressobj(self._wbits)

    def _ended(self) -> bool:
        return self._stream.eof

    def _undo(self, data: bytes) -> tuple[bytes, bytes]:
        try:
            plain = self._stream.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            raise Damaged(str(error)) from error
        return plain, self._stream.unconsumed_tail or self._stream.unused_data


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._stream.is_finished():
            return
        try:
            plain = self._stream.process(data, output_buffer_limit=PIECE_BYTES)
            while plain:
                yield plain
                plain = b"" if self._stream.can_accept_more_data() else self._more()
        except brotli.error as error:
            raise Damaged(str(error)) from error

    def _more(self) -> bytes:
        return bytes(self._stream.process(b"", output_buffer_limit=PIECE_BYTES))

    def finish(self) -> None:
        if not self._stream.is_finished():
            raise Damaged("it breaks off")


class _Zstd(_Parted):
    def __init__(self) -> None:
        super().__init__(b"\x28\xb5\x2f\xfd")
        self._begin()

    def _begin(self) -> None:
        self._stream = zstd.ZstdDecompressor()

    def _ended(self) -> bool:
        return self._stream.eof

    def _undo(self, data: bytes) -> tuple[bytes, bytes]:
        try:
            plain = self._stream.decompress(data, PIECE_BYTES)
        except zstd.ZstdError as error:
            raise Damaged(str(error)) from error
        return plain, self._stream.unused_data if self._stream.eof else b""


class _AwsChunked:
    _LINE: Final = re.compile(rb"([0-9a-fA-F]{1,8})(;[^\r\n]*)?\r\n")
    _MAX_LINE: Final = 1024

    def __init__(self) -> None:
        self._held = b""
        self._left = 0
        self._begun = False
        self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        data, at = self._held + data, 0
        # Held is at most the length of one chunk. Handed out is at most as much as came, however many chunks it is in.
        plain = bytearray()
        while at < len(data) and not self._ended:
            if self._left:
                taken = data[at : at + self._left]
                self._left -= len(taken)
                at += len(taken)
                plain += taken
            elif (after := self._next_chunk(data, at)) is not None:
                at = after
            else:
                break
        self._held = data[at:]
        if plain:
            yield bytes(plain)

    def _next_chunk(self, data: bytes, at: int) -> int | None:
        """Where the bytes of the chunk begin whose length is at a place; None until all of the length is there."""
        if self._begun:
            if len(data) < at + 2:
                return None
            if not data.startswith(b"\r\n", at):
                raise Damaged("a chunk longer than it says")
            at += 2
        line = self._LINE.match(data, at, at + self._MAX_LINE)
        if line is None:
            if len(data) - at > self._MAX_LINE or data.find(b"\n", at, at + self._MAX_LINE) >= 0:
                raise Damaged("no length of a chunk where one should be")
            return None
        self._left, self._begun = int(line[1], 16), True
        # What follows the chunk of length zero is about the body, and not of it.
        self._ended = self._left == 0
        return line.end()

    def finish(self) -> None:
        if not self._ended:
            raise Damaged("it breaks off")
