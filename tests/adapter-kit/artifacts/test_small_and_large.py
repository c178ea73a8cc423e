"""Small outputs stay in memory, large ones go to a file."""

import asyncio
import gzip
import hashlib
import os
import random
import resource
import sys
from collections.abc import AsyncIterable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import httpx
import pytest
from tests.cdn import NOW, Collecting, Request, always, artifacts, attempt, cutting, failed, reply, serving, wav

from adapter_kit.artifacts import spool
from adapter_kit.artifacts.collector import Collector
from adapter_kit.artifacts.spool import HELD_BYTES
from chassis.artifacts import ArtifactStore, StoredFile
from contracts.failures import FailureKind

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


pytestmark = pytest.mark.usefixtures("no_temporary_file_is_left")


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
