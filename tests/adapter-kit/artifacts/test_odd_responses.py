"""Headers that contradict the bytes: a paid output is stored all the same, if it is whole."""

import asyncio
import gzip
import hashlib
import re
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
from tests.builders import changed
from tests.cdn import Collecting, Request, always, artifacts, attempt, cutting, failed, mp3, png, reply, serving, wav

from adapter_kit.attempt.inputs import CollectFailed
from adapter_kit.port.outcomes import Output
from contracts.failures import FailureKind
from contracts.generation import Modality

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


pytestmark = pytest.mark.usefixtures("no_temporary_file_is_left")

SOUND = wav(2)


def aws_chunked(content: bytes, *, signed: bool, trailers: bytes = b"") -> bytes:
    signature = b";chunk-signature=" + b"a" * 64 if signed else b""
    pieces = [content[at : at + 9000] for at in range(0, len(content), 9000)]
    framed = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), signature, piece) for piece in pieces)
    return framed + b"0" + signature + b"\r\n" + trailers + b"\r\n"


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


CODED = {
    "gzip": gzip.compress(SOUND),
    "x-gzip": gzip.compress(SOUND),
    "GZIP": gzip.compress(SOUND, compresslevel=0),
    "identity, gzip": gzip.compress(SOUND),
    "gzip, identity": gzip.compress(SOUND),
    "gzip, gzip": gzip.compress(gzip.compress(SOUND)),
    "gzip;q=1": gzip.compress(SOUND[:9]) + gzip.compress(SOUND[9:]),
    "deflate": zlib.compress(SOUND),
    "Deflate": raw_deflate(SOUND),
    "br": brotli.compress(SOUND),
    "zstd": zstd.compress(SOUND),
    "aws-chunked": aws_chunked(SOUND, signed=True),
    "aws-chunked, identity": aws_chunked(SOUND, signed=False),
    "AWS-Chunked": aws_chunked(SOUND, signed=True, trailers=b"x-amz-checksum-crc32:AAAAAA==\r\n"),
    "aws-chunked,gzip": gzip.compress(aws_chunked(SOUND, signed=True)),
    "gzip,aws-chunked": aws_chunked(gzip.compress(SOUND), signed=True),
    "deflate, br": brotli.compress(zlib.compress(SOUND)),
}


@pytest.mark.parametrize("coding", CODED)
async def test_a_coded_body_is_stored_decoded(collecting: Collecting, coding: str) -> None:
    async with serving(always(reply(CODED[coding], "200 OK", f"content-encoding: {coding}"))) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert (artifact.content_type, artifact.duration_s) == ("audio/wav", 2.0)
    assert artifact.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert collecting.file("audio.wav").read_bytes() == SOUND
    assert cdn.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "coding", ["gzip", "deflate", "br", "zstd", "aws-chunked", "identity", "utf-8", "audio/mpeg", "", ","]
)
@pytest.mark.parametrize("content", [SOUND, mp3(100)], ids=["wav", "mp3"])
async def test_a_wrong_content_encoding_does_not_matter(collecting: Collecting, coding: str, content: bytes) -> None:
    answer = reply(content, "200 OK", f"content-encoding: {coding}", "content-type: text/html")
    async with serving(always(answer)) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("coding", ["gzip", "zstd", "aws-chunked"])
async def test_a_coding_is_recognized_from_the_bytes_without_a_header(collecting: Collecting, coding: str) -> None:
    async with serving(always(reply(CODED[coding]))) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(SOUND).hexdigest()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "aws-chunked"])
async def test_a_truncated_coding_is_not_final(collecting: Collecting, coding: str) -> None:
    cut = CODED[coding][: len(CODED[coding]) // 2]
    async with serving(always(reply(cut, "200 OK", f"content-encoding: {coding}"))) as cdn:
        failed(await collecting.collect(cdn.url("/")), FailureKind.OUTPUT_UNUSABLE, final=False)


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", lambda content: brotli.compress(content, quality=1)),
        ("zstd", zstd.compress),
        ("gzip, gzip", lambda content: gzip.compress(gzip.compress(content))),
    ],
)
async def test_a_decompression_bomb_is_refused_at_the_size_limit(
    collecting: Collecting, coding: str, compress: Callable[[bytes], bytes]
) -> None:
    bomb = compress(wav(1)[:44] + bytes(50_000_000))
    assert len(bomb) < 100_000
    async with serving(always(reply(bomb, "200 OK", f"content-encoding: {coding}"))) as cdn:
        tracemalloc.start()
        result = await collecting.collect(cdn.url("/"), max_bytes=1_000_000)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    failed(result, FailureKind.OUTPUT_REFUSED, final=True)
    assert most < 5_000_000


async def test_a_coded_download_starts_over_instead_of_resuming(collecting: Collecting) -> None:
    async with serving(cutting(CODED["gzip"], 100, 'etag: "v1"', "content-encoding: gzip")) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert [request.headers.get("range") for request in cdn.requests] == [None, None]


def chunked(content: bytes, *, ends: bool = True) -> bytes:
    pieces = [content[at : at + 9000] for at in range(0, len(content), 9000)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if ends else b"")


def head(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "connection: close", "", ""]).encode()


@pytest.mark.parametrize(
    "answer",
    [
        head() + SOUND,
        head("transfer-encoding: chunked") + chunked(SOUND),
        head("transfer-encoding: Chunked", "content-length: 7") + chunked(SOUND),
        head("transfer-encoding: chunked", "content-length: 99999999") + chunked(SOUND),
        head(f"content-length: {len(SOUND)}", f"content-length: {len(SOUND)}") + SOUND,
        head("content-length: 99999999") + SOUND,
        head(f"content-length: {len(SOUND) + 1}", 'etag: "v1"') + SOUND,
        head("transfer-encoding: chunked") + chunked(SOUND, ends=False),
        head(f"content-length: {len(SOUND)}") + SOUND + b"and more",
        reply(SOUND, "203 Non-Authoritative Information"),
        reply(SOUND, "201 Created"),
        reply(SOUND, "206 Partial Content"),
        reply(SOUND, "206 Partial Content", f"content-range: bytes 0-{len(SOUND) - 1}/{len(SOUND)}"),
        reply(SOUND, "206 Partial Content", f"content-range: bytes 0-{len(SOUND) - 1}/*"),
        reply(SOUND, "200 OK", "content-type: text/html; charset=utf-8"),
        reply(SOUND, "200 OK", "content-type: "),
        reply(SOUND, "200 OK", "content-type: application/json", "x-content-type-options: nosniff"),
    ],
    ids=range(17),
)
async def test_a_whole_body_is_stored_whatever_its_headers(collecting: Collecting, answer: bytes) -> None:
    async with serving(always(answer)) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(SOUND).hexdigest()


@pytest.mark.parametrize("content", [mp3(100), png(40, 40)], ids=["mp3", "png"])
async def test_a_whole_file_is_stored_although_the_declared_length_is_larger(
    collecting: Collecting, content: bytes
) -> None:
    async with serving(always(reply(content, length=len(content) + 500))) as cdn:
        kind: Modality = "image" if content.startswith(b"\x89") else "music"
        (artifact,) = artifacts(await collecting.collect(cdn.url("/"), modality=kind))
        assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    async with serving(always(reply(content[:-9], length=len(content)))) as cdn:
        failed(await collecting.collect(cdn.url("/"), modality=kind), FailureKind.OUTPUT_LOST, final=False)


async def test_an_unrequested_partial_answer_is_completed(collecting: Collecting) -> None:
    async def send(request: Request, writer: asyncio.StreamWriter) -> None:
        start = int((re.findall(r"\d+", request.headers.get("range", "")) or ["0"])[0])
        part = SOUND[start : start + 20_000]
        span = f"content-range: bytes {start}-{start + len(part) - 1}/{len(SOUND)}"
        writer.write(reply(part, "206 Partial Content", 'etag: "v1"', span))

    async with serving(send) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(SOUND).hexdigest()


async def test_a_416_at_the_end_of_the_file_completes_it(collecting: Collecting) -> None:
    async def send(request: Request, writer: asyncio.StreamWriter) -> None:
        if "range" in request.headers:
            writer.write(reply(b"", "416 Range Not Satisfiable", f"content-range: bytes */{len(SOUND)}"))
        else:
            writer.write(reply(SOUND, "200 OK", 'etag: "v1"', length=len(SOUND) + 1))

    async with serving(send) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert len(cdn.requests) == 2


@pytest.mark.parametrize(
    "early",
    [
        reply(b"", "404 Not Found"),
        reply(b"", "202 Accepted"),
        reply(b"<html>soon</html>"),
        reply(b""),
        reply(SOUND[:100]),
    ],
    ids=["404", "202", "html", "empty", "cut"],
)
async def test_an_output_that_appears_later_is_stored_then(collecting: Collecting, early: bytes) -> None:
    answers = iter([early, reply(SOUND)])

    async def send(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(next(answers))

    async with serving(send) as cdn:
        first = await collecting.collect(cdn.url("/"))
        assert isinstance(first, CollectFailed)
        assert not first.final
        assert artifacts(await collecting.collect(cdn.url("/")))


RAW = bytes(range(128, 250)) * 200


@pytest.mark.parametrize(
    ("content_type", "declared", "path", "arguments", "taken"),
    [
        ("application/octet-stream", None, "/a", {"audio_setting": {"format": "pcm"}}, True),
        ("audio/wav", "audio/wav", "/a.wav", {"audio_setting": {"format": "pcm"}}, True),
        ("audio/L16;rate=44100", "application/octet-stream", "/a", {}, True),
        ("application/octet-stream", "audio/pcm", "/a", {}, True),
        ("application/octet-stream", None, "/a.pcm?token=1", {}, True),
        ("application/octet-stream", None, "/a", {}, False),
        ("audio/wav", "audio/wav", "/a.wav", {"audio_setting": {"format": "mp3"}, "prompt": "pcm"}, False),
    ],
)
async def test_audio_without_a_signature_is_stored_if_requested_or_declared_as_raw(
    collecting: Collecting, content_type: str, declared: str | None, path: str, arguments: dict[str, Any], taken: bool
) -> None:
    async with serving(always(reply(RAW, "200 OK", f"content-type: {content_type}"))) as cdn:
        asked = changed(attempt("music", ()), outputs=(Output(cdn.url(path), declared),), arguments=arguments)
        result = await collecting.collect_for(asked)
    if taken:
        (artifact,) = artifacts(result)
        assert (artifact.name, artifact.content_type) == ("audio.raw", "application/octet-stream")
        assert collecting.file("audio.raw").read_bytes() == RAW
    else:
        failed(result, FailureKind.OUTPUT_UNUSABLE, final=False)
