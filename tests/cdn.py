"""A provider's file server, samples of media for it, and a collector that fetches from it."""

import asyncio
import datetime as dt
import io
import re
import ssl
import struct
import wave
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mutagen.ogg import OggPage
from tests.builders import changed, queued_attempt

from adapter_kit.artifacts.collector import Collector
from adapter_kit.attempt.inputs import Collected, CollectFailed
from adapter_kit.attempt.model import Attempt
from adapter_kit.port.outcomes import Output
from chassis.artifact_keys import artifact_key
from chassis.artifacts import ArtifactStore
from chassis.http.egress import EgressPolicy, egress_client
from contracts.failures import FailureKind
from contracts.generation import Modality
from contracts.ids import attempt_id_for, job_id_for
from contracts.messages.attempts import Artifact

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
        return self.store / artifact_key(ATTEMPT, name)

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


def failed(result: Collected | CollectFailed, kind: FailureKind, *, final: bool) -> str:
    assert isinstance(result, CollectFailed), result
    assert (result.failure.kind, result.final) == (kind, final), result
    return result.failure.message


def artifacts(result: Collected | CollectFailed) -> tuple[Artifact, ...]:
    assert isinstance(result, Collected), result
    return result.artifacts
