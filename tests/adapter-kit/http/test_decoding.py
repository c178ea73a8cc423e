"""Content codings are decoded in pieces of any size, in time linear in the number of bytes."""

import asyncio
import gzip
import random
import sys
import time

import brotli
import httpx
import pytest

from adapter_kit.http import body
from adapter_kit.http.decoding import Damaged, decoder_for

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLAIN = random.Random(7).randbytes(5000)


def aws_chunked(content: bytes, size: int) -> bytes:
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


CODED = {
    "aws-chunked": aws_chunked(PLAIN, 7),
    "gzip": b"".join(gzip.compress(PLAIN[at : at + 50]) for at in range(0, len(PLAIN), 50)),
    "zstd": b"".join(zstd.compress(PLAIN[at : at + 50]) for at in range(0, len(PLAIN), 50)),
    "br": brotli.compress(PLAIN),
}


def decoded(coding: str, coded: bytes, size: int) -> bytes:
    decoder = decoder_for(coding, coded[:64])
    plain = b"".join(b"".join(decoder.feed(coded[at : at + size])) for at in range(0, len(coded), size))
    decoder.finish()
    return plain


@pytest.mark.parametrize("size", [1, 2, 3, 64, 4096, 10_000_000])
@pytest.mark.parametrize("coding", CODED)
def test_the_size_of_the_pieces_does_not_matter(coding: str, size: int) -> None:
    assert decoded(coding, CODED[coding], size) == PLAIN


@pytest.mark.parametrize("size", [1, 4, 5000])
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("padding", [bytes(9000), b"\x1f", b"\x28\xb5", b"\x1f\x8aXYZ"])
def test_bytes_after_the_last_part_are_ignored_as_padding(coding: str, size: int, padding: bytes) -> None:
    assert decoded(coding, CODED[coding] + padding, size) == PLAIN


@pytest.mark.parametrize("size", [1, 100, 10_000])
@pytest.mark.parametrize("broken", [b"5\r\nabcdeX\r\n", b"5\r\nabcde\r\nnone\r\n", b"5\r\nabcde\r\n" + b"1" * 3000])
def test_a_malformed_chunk_raises_damaged(size: int, broken: bytes) -> None:
    with pytest.raises(Damaged):
        decoded("aws-chunked", broken, size)


@pytest.mark.parametrize(
    ("coding", "part"),
    [("aws-chunked", b"1\r\nx\r\n"), ("gzip", gzip.compress(b"x")), ("zstd", zstd.compress(b"x"))],
    ids=["aws-chunked", "gzip", "zstd"],
)
def test_a_large_piece_of_many_small_parts_takes_linear_time(coding: str, part: bytes) -> None:
    count = 1_000_000 // len(part)
    coded = part * count + (b"0\r\n\r\n" if coding == "aws-chunked" else b"")
    began = time.process_time()
    assert decoded(coding, coded, len(coded)) == b"x" * count
    assert time.process_time() - began < 5


async def test_the_bytes_between_two_codings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "MOST_BYTES", 1_000_000)
    bomb = gzip.compress(gzip.compress(gzip.compress(b"") * 1_000_000))
    response = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(bomb))
    began = time.process_time()
    with pytest.raises(httpx.DecodingError, match="too large"):
        await body.read_body(response, asyncio.Semaphore(), lambda: None)
    assert time.process_time() - began < 2
