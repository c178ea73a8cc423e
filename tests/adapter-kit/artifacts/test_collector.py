import asyncio
import base64
import datetime as dt
import gzip
import hashlib
import io
import os
import random
import re
import resource
import ssl
import struct
import sys
import tracemalloc
import wave
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import brotli
import httpx
import pytest
from mutagen.ogg import OggPage
from structlog.testing import capture_logs
from tests.builders import changed, queued_attempt
from tests.patience import patient

from adapter_kit.artifacts import spool
from adapter_kit.artifacts.collector import Collector
from adapter_kit.artifacts.egress_advice import RefusalLog
from adapter_kit.artifacts.spool import HELD_BYTES
from adapter_kit.attempt.inputs import Collected, CollectFailed
from adapter_kit.attempt.model import Attempt
from adapter_kit.media.inspect import Media, inspect
from adapter_kit.port.outcomes import Output
from chassis.artifacts import ArtifactStore, StoredFile
from chassis.http.egress import EgressPolicy, EgressRefused, egress_client
from contracts.failures import FailureKind
from contracts.generation import Modality
from contracts.ids import attempt_id_for, job_id_for
from contracts.messages.attempts import Artifact
from sandbox.http.certificates import make_certificates

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NOW = dt.datetime.now(dt.UTC)
JOB = job_id_for("tenant", "key")
ATTEMPT = attempt_id_for(JOB, 2)


def wav(seconds: float, rate: int = 8000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"\1\2\3\4" * int(seconds * rate))
    return buffer.getvalue()


def streamed_wav(size: int) -> bytes:
    whole = wav(1.5)
    return whole[:40] + struct.pack("<I", size) + whole[44:]


def mp3(frames: int, head: bytes = b"\xff\xfb\x90\x64", length: int = 417) -> bytes:
    return (head + bytes(length - 4)) * frames


def flac(seconds: int) -> bytes:
    packed = 44_100 << 44 | 1 << 41 | 15 << 36 | seconds * 44_100
    return b"fLaC\x80\0\0\x22" + bytes(10) + packed.to_bytes(8, "big") + bytes(16)


def ogg(head: bytes, position: int) -> bytes:
    pages = [OggPage(), OggPage()]
    pages[0].packets, pages[0].first = [head], True
    pages[1].packets, pages[1].position, pages[1].last, pages[1].sequence = [b"sound"], position, True, 1
    for page in pages:
        page.serial = 77
    return b"".join(page.write() for page in pages)


VORBIS = b"\x01vorbis" + struct.pack("<IBIIIIB", 0, 2, 44_100, 0, 128_000, 0, 0xB8) + b"\1"
OPUS = b"OpusHead" + struct.pack("<BBHIHB", 1, 2, 312, 48_000, 0, 0)


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = zlib.compress((b"\0" + b"\0\0\0" * width) * min(height, 10))
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 40_002) + b"\xff\xc0" * 20_000
    return b"\xff\xd8" + exif + b"\xff\xff\xc2\0\x11\x08" + struct.pack(">2H", height, width) + bytes(20)


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBP" + kind + struct.pack("<I", len(body)) + body + bytes(8)


@dataclass
class Request:
    path: str
    headers: Mapping[str, str]


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Cdn:
    """A provider's file server with prepared answers, one request for each connection."""

    answer: Answer
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    serving: int = 0
    most: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving += 1
        self.most = max(self.most, self.serving)
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            self.requests.append(Request(first.split(" ")[1], headers))
            await self.answer(self.requests[-1], writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.serving -= 1
            writer.close()


def reply(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + body


def always(answer: bytes) -> Answer:
    async def send(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return send


def cutting(content: bytes, at: int, *headers: str, cuts: int = 1, resumes: bool = True) -> Answer:
    """Sends `content`, but closes after `at` bytes for the first `cuts` requests; honours Range if it `resumes`."""
    left = cuts

    async def send(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        start = 0
        if resumes and (wanted := re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))):
            start = int(wanted[1])
        rest = content[start:]
        all_headers = (
            [*headers, f"content-range: bytes {start}-{len(content) - 1}/{len(content)}"] if start else headers
        )
        sent = rest[:at] if left else rest
        left -= bool(left)
        writer.write(reply(sent, "206 Partial Content" if start else "200 OK", *all_headers, length=len(rest)))

    return send


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Cdn]:
    cdn = Cdn(answer)
    async with await asyncio.start_server(cdn.serve, "127.0.0.1", 0, ssl=tls) as listener:
        cdn.port = listener.sockets[0].getsockname()[1]
        yield cdn


@dataclass
class Collecting:
    """A collector, with a real store and its work directory in `root`."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def file(self, name: str) -> Path:
        return self.store / "jobs" / JOB / ATTEMPT / name

    async def collect(
        self, *urls: str, modality: Modality = "music", allow: str = "127.0.0.1", **limits: Any
    ) -> Collected | CollectFailed:
        return await self.collect_for(attempt(modality, urls), allow, **limits)

    async def collect_for(
        self, attempt: Attempt, allow: str = "127.0.0.1", *, store: ArtifactStore | None = None, **limits: Any
    ) -> Collected | CollectFailed:
        max_bytes, time_s = int(limits.get("max_bytes", 10_000_000)), limits.get("time_s", 60.0)
        async with egress_client(EgressPolicy.parse(allow)) as client:
            store = store or ArtifactStore.open(self.store.as_uri())
            collector = Collector(client, store, max_bytes=max_bytes, work_dir=self.work, time_s=time_s)
            return await collector.collect(attempt, NOW)


def attempt(modality: Modality, urls: tuple[str, ...]) -> Attempt:
    queued = queued_attempt(JOB, NOW, attempt_id=ATTEMPT, n=2, modality=modality)
    return changed(queued, state="collecting", outputs=tuple(Output(url, "audio/mpeg") for url in urls))


@pytest.fixture
def collecting(tmp_path: Path) -> Collecting:
    (tmp_path / "work").mkdir()
    return Collecting(tmp_path)


@pytest.fixture(autouse=True)
def _no_temporary_file_is_left(collecting: Collecting) -> Iterator[None]:
    yield
    assert list(collecting.work.iterdir()) == []


def failed(result: Collected | CollectFailed, kind: FailureKind, *, final: bool) -> str:
    assert isinstance(result, CollectFailed), result
    assert (result.failure.kind, result.final) == (kind, final), result
    return result.failure.message


def artifacts(result: Collected | CollectFailed) -> tuple[Artifact, ...]:
    assert isinstance(result, Collected), result
    return result.artifacts


async def test_audio_is_stored_measured_and_hashed_and_a_repetition_gives_the_same(collecting: Collecting) -> None:
    content = wav(1.5)
    # The content type in the header does not matter.
    async with serving(always(reply(content, "200 OK", "content-type: text/html"))) as cdn:
        first = await collecting.collect(cdn.url("/made.mp3?token=secret"))
        again = await collecting.collect(cdn.url("/made.mp3?token=secret"))
    assert first == again
    (artifact,) = artifacts(first)
    assert artifact == Artifact(
        name="audio.wav",
        content_type="audio/wav",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        duration_s=1.5,
    )
    assert collecting.file("audio.wav").read_bytes() == content


async def test_images_are_numbered_in_order_and_fetched_four_at_a_time(collecting: Collecting) -> None:
    release = asyncio.Event()

    async def hold(request: Request, writer: asyncio.StreamWriter) -> None:
        if cdn.serving == 4:
            release.set()
        await release.wait()
        width = int(request.path[1:])
        writer.write(reply(jpeg(width, 20) if width % 2 else png(width, 20)))

    async with serving(hold) as cdn:
        stored = artifacts(await collecting.collect(*(cdn.url(f"/{n}") for n in range(1, 10)), modality="image"))
    assert [(one.name, one.width, one.height) for one in stored] == [
        (f"image-{n}.{'jpg' if n % 2 else 'png'}", n, 20) for n in range(1, 10)
    ]
    assert cdn.most == 4
    assert all(hashlib.sha256(collecting.file(one.name).read_bytes()).hexdigest() == one.sha256 for one in stored)


async def test_several_audio_files_have_different_names(collecting: Collecting) -> None:
    async with serving(always(reply(wav(1)))) as cdn:
        stored = artifacts(await collecting.collect(cdn.url("/a"), cdn.url("/b")))
    assert [one.name for one in stored] == ["audio.wav", "audio-2.wav"]


async def test_an_interrupted_download_is_resumed_where_it_ended(collecting: Collecting) -> None:
    content = wav(30)
    async with serving(cutting(content, 200_000, 'etag: "v1"', cuts=2)) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert [request.headers.get("range") for request in cdn.requests] == [None, "bytes=200000-", "bytes=400000-"]
    assert [request.headers.get("if-range") for request in cdn.requests] == [None, '"v1"', '"v1"']


@pytest.mark.parametrize("header", ['etag: W/"v1"', "x-nothing: to compare"])
async def test_without_a_strong_validator_a_download_starts_over(collecting: Collecting, header: str) -> None:
    content = wav(10)
    async with serving(cutting(content, 100_000, header)) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert [request.headers.get("range") for request in cdn.requests] == [None, None]


async def test_a_full_answer_to_a_range_request_replaces_the_first_part(collecting: Collecting) -> None:
    content = wav(10)
    async with serving(cutting(content, 100_000, 'etag: "v1"', resumes=False)) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert cdn.requests[1].headers["range"] == "bytes=100000-"


@pytest.mark.parametrize("span", ["bytes 5-320043/320044", "bytes 100000-320043/999999", "nonsense"])
async def test_a_part_with_a_wrong_content_range_is_not_appended(collecting: Collecting, span: str) -> None:
    content = wav(10)
    answers = iter([
        reply(content[:100_000], "200 OK", 'etag: "v1"', length=len(content)),
        reply(content[100_000:], "206 Partial Content", f"content-range: {span}"),
        reply(content),
    ])  # fmt: skip

    async def send(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(next(answers))

    async with serving(send) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert "range" not in cdn.requests[2].headers


async def test_a_download_that_keeps_breaking_is_lost_but_not_finally(collecting: Collecting) -> None:
    async with serving(cutting(wav(10), 1000, 'etag: "v1"', cuts=99)) as cdn:
        message = failed(await collecting.collect(cdn.url("/x?token=secret")), FailureKind.OUTPUT_LOST, final=False)
    assert len(cdn.requests) == 4
    assert "secret" not in message


async def test_a_host_that_was_never_reached_is_a_fault_of_our_network_and_is_logged(collecting: Collecting) -> None:
    async with serving(always(b"")) as cdn:
        pass
    with capture_logs() as logs:
        result = await collecting.collect(cdn.url("/?token=secret"))
    message = failed(result, FailureKind.OUTPUT_REFUSED, final=False)
    assert "no connection to 127.0.0.1 could be made (ConnectError)" in message
    assert isinstance(result, CollectFailed)
    assert result.reached == frozenset()
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["host"] == "127.0.0.1"
    assert "secret" not in str(line)


async def test_an_output_of_a_host_that_was_reached_before_is_lost(collecting: Collecting) -> None:
    async with serving(always(b"")) as cdn:
        pass
    known = changed(attempt("music", (cdn.url("/"),)), reached=frozenset({1}))
    assert "ConnectError" in failed(await collecting.collect_for(known), FailureKind.OUTPUT_LOST, final=False)
    other = changed(known, reached=frozenset({2}))
    failed(await collecting.collect_for(other), FailureKind.OUTPUT_REFUSED, final=False)


async def test_an_unknown_host_name_and_an_untrusted_certificate_are_faults_of_our_network(
    collecting: Collecting, tmp_path: Path
) -> None:
    unknown = await collecting.collect("https://files.invalid/a.wav")
    failed(unknown, FailureKind.OUTPUT_REFUSED, final=False)
    own = make_certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(own.cert_file, own.key_file)
    async with serving(always(reply(wav(1))), tls) as cdn:
        url = cdn.url("/").replace("http:", "https:")
        result = await collecting.collect(url)
    assert cdn.requests == []
    assert "ConnectError" in failed(result, FailureKind.OUTPUT_REFUSED, final=False)


async def test_a_redirect_to_a_host_that_is_not_reached_does_not_count_as_reached(collecting: Collecting) -> None:
    async with serving(always(b"")) as cdn:
        pass
    async with serving(always(reply(b"", "302 Found", f"location: {cdn.url('/file')}"))) as front:
        result = await collecting.collect(front.url("/"))
    failed(result, FailureKind.OUTPUT_REFUSED, final=False)
    assert isinstance(result, CollectFailed)
    assert result.reached == frozenset()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\nRIFF", b"nonsense", reply(b"", "404 Not Found")]
)
async def test_a_host_counts_as_reached_whatever_it_answers(collecting: Collecting, answer: bytes) -> None:
    async with serving(always(answer)) as cdn:
        result = await collecting.collect(cdn.url("/"))
    failed(result, FailureKind.OUTPUT_LOST, final=False)
    assert isinstance(result, CollectFailed)
    assert result.reached == frozenset({1})


@pytest.mark.parametrize("status", [202, 204, 304, 400, 401, 402, 403, 404, 409, 410, 418, 429, 451, 500, 503])
async def test_no_error_status_is_final_for_a_paid_output(collecting: Collecting, status: int) -> None:
    body = b"" if status in (204, 304) else wav(1)
    async with serving(always(reply(body, f"{status} Whatever"))) as cdn:
        result = await collecting.collect(cdn.url("/"))
    assert str(status) in failed(result, FailureKind.OUTPUT_LOST, final=False)
    assert isinstance(result, CollectFailed)
    assert result.failure.http_status == status
    assert len(cdn.requests) == 1


async def test_the_size_limit_applies_to_the_bytes_received(collecting: Collecting) -> None:
    async def endless(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + wav(1))
        while not writer.is_closing():
            writer.write(bytes(65_536))
            await writer.drain()

    async with serving(endless) as cdn:
        result = await collecting.collect(cdn.url("/"), max_bytes=1_000_000)
    assert "larger than 1000000 bytes" in failed(result, FailureKind.OUTPUT_REFUSED, final=True)
    assert not collecting.file("audio.wav").exists()


async def test_a_file_of_exactly_the_limit_is_kept(collecting: Collecting) -> None:
    content = wav(1)
    async with serving(always(reply(content))) as cdn:
        assert artifacts(await collecting.collect(cdn.url("/"), max_bytes=len(content)))
        failed(
            await collecting.collect(cdn.url("/"), max_bytes=len(content) - 1), FailureKind.OUTPUT_REFUSED, final=True
        )


@pytest.mark.parametrize(
    ("content", "modality", "said"),
    [
        (b"<!DOCTYPE html><html><body>Please log in</body></html>", "music", "text/html"),
        (b'{"detail": "expired"}', "music", "application/json"),
        (b"nothing in particular", "music", "text/plain"),
        (b"", "music", "empty"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "image", "svg"),
        (png(4, 4), "music", "image/png"),
        (wav(1), "image", "audio/wav"),
        (wav(0), "music", "without any sound"),
        (b"ID3\4\0\0\0\0\0\0" + b"<html>" * 1000, "music", "text/html"),
        (png(4, 4)[:18], "image", "cut off"),
        (png(0, 4), "image", "0 by 4 pixels"),
    ],
)
async def test_content_that_is_not_the_requested_media_is_unusable(
    collecting: Collecting, content: bytes, modality: Modality, said: str
) -> None:
    async with serving(always(reply(content, "200 OK", "content-type: audio/wav"))) as cdn:
        result = await collecting.collect(cdn.url("/audio.wav"), modality=modality)
    assert said in failed(result, FailureKind.OUTPUT_UNUSABLE, final=False)
    assert not (collecting.store / "jobs").exists()


async def test_an_output_inside_our_network_is_not_fetched_and_is_logged(collecting: Collecting) -> None:
    async with serving(always(reply(wav(1)))) as cdn:
        with capture_logs() as logs:
            message = failed(await collecting.collect(cdn.url("/"), allow=""), FailureKind.OUTPUT_REFUSED, final=True)
        assert "SEGUE_EGRESS_ALLOW" not in message
        assert "egress rules refuse 127.0.0.1" in message
        (line,) = [line for line in logs if line["log_level"] == "error"]
        assert (line["host"], line["remedy"]) == ("127.0.0.1", "SEGUE_EGRESS_ALLOW=127.0.0.1")
        inner = cdn.url("/").replace("127.0.0.1", "127.0.0.2")
        async with serving(always(reply(b"", "302 Found", f"location: {inner}"))) as outer:
            failed(await collecting.collect(outer.url("/")), FailureKind.OUTPUT_REFUSED, final=True)
    assert cdn.requests == []


def test_a_refused_host_is_logged_once_a_minute() -> None:
    clock = iter([0.0, 1.0, 2.0, 59.9, 60.1, 61.0])
    refusals = RefusalLog(clock=lambda: next(clock))
    with capture_logs() as logs:
        for host in ("a.example", "a.example", "b.example", "a.example", "a.example", "a.example"):
            refusals.tell(EgressRefused(host, "10.0.0.1 is not a public address"))
    assert [line["host"] for line in logs] == ["a.example", "b.example", "a.example"]


@pytest.mark.parametrize("url", ["", "nothing", "https://", "ftp://host/x"])
async def test_a_url_without_http_or_host_is_refused(collecting: Collecting, url: str) -> None:
    failed(await collecting.collect(url), FailureKind.OUTPUT_REFUSED, final=True)


@pytest.mark.parametrize("url", ["https://[::1", "https://host:port/"])
async def test_an_invalid_url_is_unusable(collecting: Collecting, url: str) -> None:
    failed(await collecting.collect(url), FailureKind.OUTPUT_UNUSABLE, final=False)


async def test_endless_redirects_are_not_final(collecting: Collecting) -> None:
    async with serving(always(reply(b"", "302 Found", "location: /again"))) as cdn:
        assert "TooManyRedirects" in failed(
            await collecting.collect(cdn.url("/")), FailureKind.OUTPUT_LOST, final=False
        )


async def test_a_redirect_to_a_cdn_is_followed(collecting: Collecting) -> None:
    async with (
        serving(always(reply(wav(2)))) as cdn,
        serving(always(reply(b"", "307 Temporary Redirect", f"location: {cdn.url('/file')}"))) as front,
    ):
        (artifact,) = artifacts(await collecting.collect(front.url("/")))
    assert artifact.duration_s == 2.0


async def test_data_urls_are_stored_up_to_the_size_limit(collecting: Collecting) -> None:
    content = wav(1)
    url = "data:audio/mpeg;base64," + base64.b64encode(content).decode()
    (artifact,) = artifacts(await collecting.collect(url))
    assert (artifact.content_type, artifact.sha256) == ("audio/wav", hashlib.sha256(content).hexdigest())
    assert artifacts(await collecting.collect("data:," + "".join(f"%{byte:02x}" for byte in content)))
    for bad in ("data:audio/wav;base64,****", "data:audio/wav;base64,\u00fc", "data:audio/wav,", "data:,"):
        failed(await collecting.collect(bad), FailureKind.OUTPUT_UNUSABLE, final=False)
    for limit in (len(content) - 1, 100):
        failed(await collecting.collect(url, max_bytes=limit), FailureKind.OUTPUT_REFUSED, final=True)


@pytest.mark.parametrize(
    "spelling",
    [
        lambda code: f"data:audio/wav;base64,{code}",
        lambda code: f"DATA:AUDIO/WAV;BASE64,{code}",
        lambda code: f"data:;base64,{code.rstrip('=')}",
        lambda code: f"data:audio/wav;charset=binary;rate=8000;base64,{code}",
        lambda code: f"data:audio/wav; base64,{code}",
        lambda code: "data:audio/wav;base64," + "\r\n".join(code[at : at + 76] for at in range(0, len(code), 76)),
        lambda code: "data:audio/wav;base64," + code.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        lambda code: "data:audio/wav;base64," + code.replace("+", "-").replace("/", "_"),
        lambda code: f"data:audio/wav;base64, {code} ",
        lambda code: f"data:text/html;base64,{code}",
    ],
)
async def test_data_urls_are_read_in_every_spelling(collecting: Collecting, spelling: Callable[[str], str]) -> None:
    content = wav(0.5)[:-1]
    assert len(content) % 3
    (artifact,) = artifacts(await collecting.collect(spelling(base64.b64encode(content).decode())))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()


async def test_a_failing_store_is_not_final(collecting: Collecting) -> None:
    collecting.store.mkdir()
    (collecting.store / "jobs").write_text("in the way of the folder")
    async with serving(always(reply(wav(1)))) as cdn:
        failed(await collecting.collect(cdn.url("/")), FailureKind.STORE_FAILED, final=False)
        (collecting.store / "jobs").unlink()
        assert artifacts(await collecting.collect(cdn.url("/")))


async def test_a_stalled_download_ends_within_the_time_limit(collecting: Collecting) -> None:
    async def stall(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nRIFF")
        await writer.drain()
        await over.wait()

    over = asyncio.Event()
    async with serving(stall) as cdn:
        result = await collecting.collect(cdn.url("/"), time_s=0.2)
        over.set()
    assert "within 0.2 s" in failed(result, FailureKind.OUTPUT_LOST, final=False)


async def test_a_collection_waits_for_its_turn_without_losing_any_of_its_own_time(collecting: Collecting) -> None:
    async def stall_the_first(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/first":
            await over.wait()
        else:
            first_was_done.append(first.done())
            writer.write(reply(wav(1)))

    over, first_was_done = asyncio.Event(), list[bool]()
    async with serving(stall_the_first) as cdn, egress_client(EgressPolicy.parse("127.0.0.1")) as client:
        store = ArtifactStore.open(collecting.store.as_uri())
        collector = Collector(client, store, work_dir=collecting.work, time_s=patient(2), at_once=1)
        first = asyncio.create_task(collector.collect(attempt("music", (cdn.url("/first"),)), NOW))
        second = asyncio.create_task(collector.collect(attempt("music", (cdn.url("/second"),)), NOW))
        failed(await first, FailureKind.OUTPUT_LOST, final=False)
        artifacts(await second)
        over.set()
    assert first_was_done == [True]


async def test_a_final_failure_of_one_output_is_the_failure_of_all(collecting: Collecting) -> None:
    pages = {"/good": reply(wav(1)), "/away": reply(b"", "503 Away"), "/large": reply(wav(9))}

    async def send(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(pages[request.path])

    async with serving(send) as cdn:
        urls = [cdn.url(path) for path in pages]
        result = await collecting.collect(*urls, max_bytes=100_000)
        assert failed(result, FailureKind.OUTPUT_REFUSED, final=True).startswith("output 3:")
        failed(await collecting.collect(*urls[:2]), FailureKind.OUTPUT_LOST, final=False)


async def test_a_partial_failure_names_the_stored_and_the_missing_outputs(collecting: Collecting) -> None:
    pages = {
        "/good": reply(wav(1)),
        "/gone": reply(b"", "404 Not Found"),
        "/page": reply(b"<html>"),
        "/b": reply(wav(2)),
    }

    async def send(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(pages[request.path])

    async with serving(send) as cdn:
        result = await collecting.collect(*(cdn.url(path) for path in pages))
    failed(result, FailureKind.OUTPUT_LOST, final=False)
    assert isinstance(result, CollectFailed)
    assert {n: artifact.name for n, artifact in result.stored.items()} == {1: "audio.wav", 4: "audio-4.wav"}
    assert list(result.missing) == [2, 3]
    assert result.missing[2] == "output 2: the provider answers 404 to the request for its output"
    assert result.missing[3] == "output 3: not media, but text/html"
    assert result.reached == frozenset({1, 2, 3, 4})


class SlowStore(ArtifactStore):
    """A store that never answers."""

    async def put_bytes(self, content: bytes, key: str, *, content_type: str) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("outputs", [1, 9])
async def test_a_store_that_hangs_is_a_store_failure_for_any_number_of_outputs(
    collecting: Collecting, outputs: int
) -> None:
    store = SlowStore.open(collecting.store.as_uri())
    async with serving(always(reply(wav(1)))) as cdn:
        asked = attempt("music", tuple(cdn.url(f"/{n}") for n in range(outputs)))
        result = await collecting.collect_for(asked, store=store, time_s=1)
    assert "the artifact store took too long" in failed(result, FailureKind.STORE_FAILED, final=False)


async def test_a_store_failure_takes_precedence_over_lost_outputs(collecting: Collecting) -> None:
    async def send(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(wav(1)) if request.path == "/good" else reply(b"", "404 Not Found"))

    collecting.store.mkdir()
    (collecting.store / "jobs").write_text("in the way of the folder")
    async with serving(send) as cdn:
        result = await collecting.collect(cdn.url("/gone"), cdn.url("/good"))
    assert failed(result, FailureKind.STORE_FAILED, final=False).startswith("output 2:")


async def test_no_outputs_are_unusable(collecting: Collecting) -> None:
    failed(await collecting.collect(), FailureKind.OUTPUT_UNUSABLE, final=False)


@pytest.mark.parametrize(
    ("content", "media"),
    [
        (wav(0.25), Media("audio/wav", "wav", 0.25)),
        (streamed_wav(0xFFFF_FFFF), Media("audio/wav", "wav", 1.5)),
        (streamed_wav(0), Media("audio/wav", "wav", 1.5)),
        (mp3(100), Media("audio/mpeg", "mp3", 2.606)),
        (b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + mp3(100), Media("audio/mpeg", "mp3", 2.606)),
        (mp3(100, b"\xff\xf3\x84\xc4", 192), Media("audio/mpeg", "mp3", 2.4)),
        (flac(3), Media("audio/flac", "flac", 3.0)),
        (flac(0), Media("audio/flac", "flac", None)),
        (ogg(VORBIS, 88_200), Media("audio/ogg", "ogg", 2.0)),
        (ogg(OPUS, 96_312), Media("audio/ogg", "ogg", 2.0)),
        (png(640, 480), Media("image/png", "png", width=640, height=480)),
        (jpeg(640, 480), Media("image/jpeg", "jpg", width=640, height=480)),
        (b"GIF89a\x80\x02\xe0\x01\0\0\0", Media("image/gif", "gif", width=640, height=480)),
        (
            webp(b"VP8X", b"\0\0\0\0\x7f\x02\0\xdf\x01\0"),
            Media("image/webp", "webp", width=640, height=480),
        ),
        (
            webp(b"VP8L", b"\x2f" + (639 | 479 << 14).to_bytes(4, "little")),
            Media("image/webp", "webp", width=640, height=480),
        ),
        (
            webp(b"VP8 ", b"\x30\1\0\x9d\x01\x2a\x80\x02\xe0\x01"),
            Media("image/webp", "webp", width=640, height=480),
        ),
    ],
)
def test_media_are_recognized_and_measured_from_their_bytes(tmp_path: Path, content: bytes, media: Media) -> None:
    path = tmp_path / "output"
    path.write_bytes(content)
    with path.open("rb") as file:
        for each in (file, io.BytesIO(content)):
            assert inspect(each, "image" if media.width else "music") == media


# --- Headers that contradict the bytes --------------------------------------------------------------------------------

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


# --- Small outputs stay in memory, large ones go to a file ------------------------------------------------------------


class CountingExecutor(ThreadPoolExecutor):
    """The event loop's executor, which counts what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super().submit(*args, **kwargs)


def wav_of(size: int) -> bytes:
    content = wav((size + 4) / 32_000)[:size]
    assert len(content) == size
    return content


@pytest.fixture
def temporary_files(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The temporary files that were made."""
    made = list[Any]()

    def counted(*args: Any, **kwargs: Any) -> Any:
        made.append(TemporaryFile(*args, **kwargs))  # noqa: SIM115 - the spool closes it
        return made[-1]

    monkeypatch.setattr(spool, "TemporaryFile", counted)
    return made


@pytest.mark.parametrize("size", [20_000, HELD_BYTES])
async def test_a_small_output_takes_one_call_of_a_thread_and_no_file(
    collecting: Collecting, temporary_files: list[Any], size: int
) -> None:
    content = wav_of(size)
    before = os.umask(0o077)  # As services set it when they start.
    store = ArtifactStore.open(collecting.store.as_uri(), writing=True)
    executor = CountingExecutor()
    asyncio.get_running_loop().set_default_executor(executor)
    # A real connection takes one call more, for the address of the host.
    answers = httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(content)))
    try:
        async with httpx.AsyncClient(transport=answers) as client:
            collector = Collector(client, store, work_dir=collecting.work)
            (artifact,) = artifacts(await collector.collect(attempt("music", ("https://files.example/a",)), NOW))
    finally:
        os.umask(before)
    assert executor.calls == 1
    assert temporary_files == []
    assert (artifact.size_bytes, artifact.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert collecting.file("audio.wav").read_bytes() == content


@pytest.mark.parametrize("size", [HELD_BYTES + 1, 3 * HELD_BYTES])
async def test_a_larger_output_goes_through_one_file_which_is_closed(
    collecting: Collecting, temporary_files: list[Any], size: int
) -> None:
    content = wav_of(size)
    async with serving(always(reply(content))) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert (artifact.size_bytes, artifact.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert collecting.file("audio.wav").read_bytes() == content
    assert [file.closed for file in temporary_files] == [True]


async def test_a_small_output_that_was_cut_off_is_resumed(collecting: Collecting, temporary_files: list[Any]) -> None:
    content = wav(1)
    async with serving(cutting(content, 1000, 'etag: "v1"', cuts=2)) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert [request.headers.get("range") for request in cdn.requests] == [None, "bytes=1000-", "bytes=2000-"]
    assert temporary_files == []


@pytest.mark.parametrize("cut", [1000, HELD_BYTES, HELD_BYTES + 1, 3 * HELD_BYTES - 7])
async def test_an_output_that_breaks_off_twice_at_the_same_byte_is_resumed_there(
    collecting: Collecting, cut: int
) -> None:
    content = wav_of(4 * HELD_BYTES)
    sent = iter([content[:cut], b"", content[cut:]])

    async def send(request: Request, writer: asyncio.StreamWriter) -> None:
        span = f"content-range: bytes {cut}-{len(content) - 1}/{len(content)}"
        later = "range" in request.headers
        status, length = ("206 Partial Content", len(content) - cut) if later else ("200 OK", len(content))
        writer.write(reply(next(sent), status, 'etag: "v1"', *([span] if later else []), length=length))

    async with serving(send) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert [request.headers.get("range") for request in cdn.requests] == [None, f"bytes={cut}-", f"bytes={cut}-"]


async def test_a_large_output_is_whole_although_the_declared_length_is_larger(collecting: Collecting) -> None:
    content = wav(30)
    async with serving(always(reply(content, length=len(content) + 500))) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()


def noise(size: int) -> bytes:
    """Audio that cannot be compressed."""
    return wav_of(44 + size)[:44] + random.Random(1).randbytes(size)


@pytest.mark.parametrize(
    ("content", "large_coded", "large"),
    [
        (noise(20_000), False, False),
        (wav(30), False, True),
        (noise(3 * HELD_BYTES), True, True),
    ],
    ids=["small", "small, and large once it is decoded", "large"],
)
@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, lambda x: gzip.compress(zstd.compress(x))])
async def test_a_coded_output_of_any_size_is_stored_decoded(
    collecting: Collecting,
    temporary_files: list[Any],
    content: bytes,
    large_coded: bool,
    large: bool,
    compress: Callable[[bytes], bytes],
) -> None:
    coded = compress(content)
    assert (len(coded) > HELD_BYTES, len(content) > HELD_BYTES) == (large_coded, large)
    async with serving(always(reply(coded))) as cdn:
        (artifact,) = artifacts(await collecting.collect(cdn.url("/")))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert collecting.file("audio.wav").read_bytes() == content
    assert bool(temporary_files) == large
    assert all(file.closed for file in temporary_files)


async def test_a_full_disk_is_not_final_and_leaves_no_file(collecting: Collecting, temporary_files: list[Any]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HELD_BYTES, limits[1]))
    try:
        async with serving(always(reply(wav(30)))) as cdn:
            result = await collecting.collect(cdn.url("/"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "(OSError)" in failed(result, FailureKind.STORE_FAILED, final=False)
    assert [file.closed for file in temporary_files] == [True]


async def test_a_store_that_changes_a_large_output_is_found_out(collecting: Collecting) -> None:
    class Wrong(ArtifactStore):
        async def put_file(self, source: BinaryIO | AsyncIterable[bytes], key: str, *, content_type: str) -> StoredFile:
            return replace(await super().put_file(source, key, content_type=content_type), sha256="0" * 64)

    async with serving(always(reply(wav(30)))) as cdn:
        asked = attempt("music", (cdn.url("/"),))
        result = await collecting.collect_for(asked, store=Wrong.open(collecting.store.as_uri()))
    failed(result, FailureKind.STORE_FAILED, final=False)
