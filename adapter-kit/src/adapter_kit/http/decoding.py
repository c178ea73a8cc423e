"""Incremental decoders for content codings of HTTP responses and of downloaded files. Pure.

A `Content-Encoding` header is only a hint; the first bytes decide whether a body is coded. Codings: RFC 9110 §8.4.1,
RFC 7932 (br), RFC 8878 (zstd); aws-chunked is S3's framing of signed uploads, which some stores return undecoded
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
"""The largest decoded piece that a decoder yields, whatever the compression ratio."""
MAX_CODINGS: Final = 4
_FED_BYTES: Final = 4096
"""How many bytes a decoder of concatenated members takes at a time."""

_NAMES: Final = {"x-gzip": "gzip", "x-deflate": "deflate", "zstandard": "zstd", "x-zstd": "zstd", "brotli": "br"}
_KNOWN: Final = frozenset({"gzip", "deflate", "br", "zstd", "aws-chunked"})
_MARKED: Final = (
    (re.compile(rb"\x1f\x8b\x08"), "gzip"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd"),
    (re.compile(rb"[0-9a-fA-F]{1,8}(;[\x20-\x7e]{0,500})?\r\n"), "aws-chunked"),
)
_UNMARKED: Final = frozenset({"deflate", "br"})


class Damaged(Exception):
    """The bytes are not valid in the detected coding, or are truncated."""


class Decoder(Protocol):
    """Decodes one body."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode the next bytes and yield the decoded pieces. Raises Damaged."""
        ...

    def finish(self) -> None:
        """Check that the body is complete. Raises Damaged if it is truncated."""
        ...


def codings_of(content_encoding: str) -> list[str]:
    """The known codings in a `Content-Encoding` header, in the order in which they were applied."""
    named = (each.strip().lower() for each in content_encoding.split(","))
    return [coding for each in named if (coding := _NAMES.get(each, each)) in _KNOWN][:MAX_CODINGS]


def coding_of(head: bytes, named: list[str]) -> str | None:
    """The coding whose signature is at the start of a body; otherwise the last in `named` that has no signature.

    None if there is neither.
    """
    marked = next((coding for signature, coding in _MARKED if signature.match(head)), None)
    if marked is not None:
        return marked
    return next((coding for coding in reversed(named) if coding in _UNMARKED), None)


def decoder_for(coding: str, head: bytes) -> Decoder:
    """A decoder for a body in a known coding; `head` is the start of the body."""
    match coding:
        case "gzip":
            return _Zlib(zlib.MAX_WBITS | 16)
        case "deflate":
            # The RFC requires the zlib header; some servers send raw deflate.
            wrapped = len(head) > 1 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0
            return _Zlib(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
        case _:
            return _AwsChunked()


class _Members(ABC):
    """Decodes concatenated members that each start with a signature; other bytes after a member are padding."""

    def __init__(self, signature: bytes | None) -> None:
        """Without a `signature`, there is one member only."""
        self._signature = signature
        self._held = b""
        self._padding = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        # A member returns its unused input as a copy: with many small members in a large piece, quadratic time.
        for at in range(0, len(data), _FED_BYTES):
            yield from self._feed(data[at : at + _FED_BYTES])

    def _feed(self, data: bytes) -> Iterator[bytes]:
        while not self._padding:
            if self._ended():
                data, self._held = self._held + data, b""
                if self._signature is None or not data.startswith(self._signature):
                    self._hold(data)
                    return
                self._begin()
            plain, data = self._decode(data)
            if plain:
                yield plain
            elif not data and not self._ended():
                return

    def _hold(self, data: bytes) -> None:
        # A signature may be split between two pieces.
        self._padding = self._signature is None or not self._signature.startswith(data)
        self._held = b"" if self._padding else data

    def finish(self) -> None:
        if not self._ended():
            raise Damaged("it breaks off")

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _ended(self) -> bool: ...

    @abstractmethod
    def _decode(self, data: bytes) -> tuple[bytes, bytes]:
        """Some decoded bytes, and the input that was not used."""


class _Zlib(_Members):
    def __init__(self, wbits: int) -> None:
        super().__init__(b"\x1f\x8b" if wbits >= 16 else None)
        self._wbits = wbits
        self._begin()

    def _begin(self) -> None:
        self._stream = zlib.decompressobj(self._wbits)

    def _ended(self) -> bool:
        return self._stream.eof

    def _decode(self, data: bytes) -> tuple[bytes, bytes]:
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


class _Zstd(_Members):
    def __init__(self) -> None:
        super().__init__(b"\x28\xb5\x2f\xfd")
        self._begin()

    def _begin(self) -> None:
        self._stream = zstd.ZstdDecompressor()

    def _ended(self) -> bool:
        return self._stream.eof

    def _decode(self, data: bytes) -> tuple[bytes, bytes]:
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
        # At most one chunk header is held, and the output is never longer than the input.
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
        """The position after the chunk header at `at`; None until the header has arrived completely."""
        if self._begun:
            if len(data) < at + 2:
                return None
            if not data.startswith(b"\r\n", at):
                raise Damaged("a chunk is longer than its header says")
            at += 2
        line = self._LINE.match(data, at, at + self._MAX_LINE)
        if line is None:
            if len(data) - at > self._MAX_LINE or data.find(b"\n", at, at + self._MAX_LINE) >= 0:
                raise Damaged("a chunk header is missing")
            return None
        self._left, self._begun = int(line[1], 16), True
        # Trailers follow the chunk of length zero.
        self._ended = self._left == 0
        return line.end()

    def finish(self) -> None:
        if not self._ended:
            raise Damaged("it breaks off")
