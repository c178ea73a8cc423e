"""Reads the body of a provider's response in bounded memory: decodes it and shortens it if it is too large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import httpx

from adapter_kit.http.bounded_json import BoundedJson
from adapter_kit.http.decoding import MAX_CODINGS, Damaged, coding_of, codings_of, decoder_for

WHOLE_BYTES: Final = 1024 * 1024
"""A body of at most so many bytes is kept unchanged."""
MOST_BYTES: Final = 256 * 1024 * 1024
"""Reading stops after so many decoded bytes, and fails after so many between two codings."""
LARGE_AT_ONCE: Final = 4
"""Limit on bodies over `WHOLE_BYTES` that are read concurrently: each may take tens of megabytes."""
_HEAD_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Body:
    """A decoded body. `complete` is False if elements or members were omitted, or if it was not read to its end."""

    content: bytes
    complete: bool = True


async def read_body(response: httpx.Response, large: asyncio.Semaphore, more_time: Callable[[], None]) -> Body:
    """Read the body of a streamed response. Raises httpx's errors.

    For a JSON body over `WHOLE_BYTES`, `more_time` is called once and `large` is held while the rest is read.
    """
    pieces = _plain_pieces(response.aiter_raw(), codings_of(response.headers.get("content-encoding", "")))
    async with aclosing(pieces):
        start = bytearray()
        async for piece in pieces:
            start += piece
            if len(start) > WHOLE_BYTES:
                break
        else:
            return Body(bytes(start))
        if bytes(start.lstrip()[:1]) not in (b"{", b"["):
            # An HTML page or binary data: the first bytes are enough for an error message.
            return Body(bytes(start[:WHOLE_BYTES]), complete=False)
        more_time()
        async with large:
            return await _shortened(bytes(start), pieces)


async def _shortened(start: bytes, pieces: AsyncIterator[bytes]) -> Body:
    json, read = BoundedJson(), len(start)
    json.feed(start)
    async for piece in pieces:
        json.feed(piece)
        read += len(piece)
        if read > MOST_BYTES:
            return Body(json.finish(cut_short=True), complete=False)
    return Body(json.finish(), json.complete)


async def _plain_pieces(pieces: AsyncIterator[bytes], named: list[str], layer: int = 0) -> AsyncGenerator[bytes]:
    head = b""
    async for piece in pieces:
        head += piece
        if len(head) >= _HEAD_BYTES:
            break
    coding = _coding(head, named) if layer < MAX_CODINGS else None
    if coding is None:
        async for piece in _with_head(head, pieces):
            yield piece
        return
    left = [each for each in named if each != coding]
    async for piece in _plain_pieces(_decoded(coding, head, pieces), left, layer + 1):
        yield piece


async def _with_head(head: bytes, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield head
    async for piece in pieces:
        yield piece


def _coding(head: bytes, named: list[str]) -> str | None:
    """The coding that the bytes show. A header that names a coding is ignored if plain JSON or a page follows."""
    if not head or head.lstrip()[:1] in (b"{", b"[", b"<", b'"'):
        return None
    coding = coding_of(head, named)
    return None if coding == "aws-chunked" and coding not in named else coding


async def _decoded(coding: str, head: bytes, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    decoder, read = decoder_for(coding, head), 0
    try:
        async for piece in _with_head(head, pieces):
            for plain in decoder.feed(piece):
                yield plain
                # Under another coding, many bytes may decode to none, which `_shortened` never sees.
                read += len(plain)
                if read > MOST_BYTES:
                    raise httpx.DecodingError(f"body is too large in {coding}")
        decoder.finish()
    except Damaged as error:
        raise httpx.DecodingError(f"body is not valid {coding}: {error}") from error
