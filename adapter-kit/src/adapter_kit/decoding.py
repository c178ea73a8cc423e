"""Compressed and framed bodies made plain, a piece at a time: of HTTP answers, and of files that came so.

A header that names a coding is taken for a hint: the bytes say whether they are coded. Pure. Codings: RFC 9110 §8.4.1,
RFC 7932 (br), RFC 8878 (zstd); aws-chunked is S3's framing of signed uploads, which some stores hand out as it came
(https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html).
"""

from __future__ import annotations

import re
import sys
import zlib
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


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._stream = zlib.decompressobj(wbits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data or not self._stream.eof:
            if self._stream.eof:
                # Another member may follow; what is none is padding.
                if self._wbits < 16 or not data.startswith(b"\x1f\x8b"):
                    return
                self._stream = zlib.decompressobj(self._wbits)
            try:
                plain = self._stream.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise Damaged(str(error)) from error
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if plain:
                yield plain
            elif not data:
                return

    def finish(self) -> None:
        if not self._stream.eof:
            raise Damaged("it breaks off")


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


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data or not (self._stream.eof or self._stream.needs_input):
            if self._stream.eof:
                if not data.startswith(b"\x28\xb5\x2f\xfd"):
                    return
                self._stream = zstd.ZstdDecompressor()
            try:
                plain = self._stream.decompress(data, PIECE_BYTES)
            except zstd.ZstdError as error:
                raise Damaged(str(error)) from error
            data = self._stream.unused_data if self._stream.eof else b""
            if plain:
                yield plain

    def finish(self) -> None:
        if not self._stream.eof:
            raise Damaged("it breaks off")


class _AwsChunked:
    _LINE: Final = re.compile(rb"([0-9a-fA-F]{1,8})(;[^\r\n]*)?\r\n")
    _MAX_LINE: Final = 1024

    def __init__(self) -> None:
        self._held = b""
        self._left = 0
        self._begun = False
        self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._held += data
        while self._held and not self._ended:
            if self._left:
                plain, self._held = self._held[: self._left], self._held[self._left :]
                self._left -= len(plain)
                yield plain
            elif not self._next_chunk():
                return

    def _next_chunk(self) -> bool:
        after = self._held
        if self._begun:
            if len(after) < 2:
                return False
            if not after.startswith(b"\r\n"):
                raise Damaged("a chunk longer than it says")
            after = after[2:]
        line = self._LINE.match(after)
        if line is None:
            if len(after) > self._MAX_LINE or b"\n" in after:
                raise Damaged("no length of a chunk where one should be")
            return False
        self._held, self._left, self._begun = after[line.end() :], int(line[1], 16), True
        # What follows the chunk of length zero is about the body, and not of it.
        self._ended = self._left == 0
        return True

    def finish(self) -> None:
        if not self._ended:
            raise Damaged("it breaks off")
