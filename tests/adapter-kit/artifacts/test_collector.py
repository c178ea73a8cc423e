import asyncio
import base64
import hashlib
import io
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.builders import changed
from tests.cdn import (
    NOW,
    OPUS,
    VORBIS,
    Collecting,
    Request,
    always,
    artifacts,
    attempt,
    cutting,
    failed,
    flac,
    jpeg,
    mp3,
    ogg,
    png,
    reply,
    serving,
    streamed_wav,
    wav,
    webp,
)
from tests.patience import patient

from adapter_kit.artifacts.collector import Collector
from adapter_kit.artifacts.egress_advice import RefusalLog
from adapter_kit.attempt.inputs import CollectFailed
from adapter_kit.media.inspect import Media, inspect
from chassis.artifacts import ArtifactStore
from chassis.http.egress import EgressPolicy, EgressRefused, egress_client
from contracts.failures import FailureKind
from contracts.generation import Modality
from contracts.messages.attempts import Artifact
from sandbox.http.certificates import make_certificates

pytestmark = pytest.mark.usefixtures("no_temporary_file_is_left")


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
