"""The media type of a file from its bytes: real files of every kind, the same in odd wrappings, and hostile ones."""

import io
import re
import struct
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.patience import patient

from adapter_kit.media.inspect import Media, Unusable, inspect
from adapter_kit.media.integrity import is_whole
from adapter_kit.media.magic import text_in
from adapter_kit.media.raw_sound import asks_for_raw, is_named_raw

SAMPLES = Path(__file__).parent / "samples"
KINDS = {
    "a.3gp": ("audio/3gpp", "3gp", 0.5),
    "a.aac": ("audio/aac", "aac", 0.576),
    "a.ac3": ("audio/ac3", "ac3", None),
    "a.aiff": ("audio/aiff", "aiff", 0.1),
    "a.amr": ("audio/amr", "amr", None),
    "a.au": ("audio/x-au", "au", None),
    "a.caf": ("audio/x-caf", "caf", None),
    "a.flac": ("audio/flac", "flac", 0.1),
    "a.flv": ("video/x-flv", "flv", None),
    "a.loas": ("audio/mp4a-latm", "loas", None),
    "a.mp3": ("audio/mpeg", "mp3", 0.576),
    "a.ts": ("video/mp2t", "ts", None),
    "a.tta": ("audio/x-tta", "tta", None),
    "a.w64": ("audio/x-w64", "w64", None),
    "a.wav": ("audio/wav", "wav", 0.1),
    "a.wv": ("audio/x-wavpack", "wvp", None),
    "aac.m4a": ("audio/mp4", "m4a", 0.5),
    "alac.m4a": ("audio/mp4", "m4a", 0.1),
    "dash.mp4": ("audio/mp4", "m4a", None),
    "ext.wav": ("audio/wav", "wav", 0.05),
    "film.mp4": ("video/mp4", "mp4", 0.6),
    "film.webm": ("video/webm", "webm", 0.6),
    "flac.ogg": ("audio/ogg", "ogg", 0.1),
    "float.wav": ("audio/wav", "wav", 0.05),
    "frag.mp4": ("audio/mp4", "m4a", None),
    "live.webm": ("audio/webm", "webm", None),
    "mp42.mp4": ("audio/mp4", "m4a", 0.5),
    "mulaw.wav": ("audio/wav", "wav", 0.1),
    "opus.mka": ("audio/x-matroska", "mka", 0.508),
    "opus.ogg": ("audio/ogg", "ogg", 0.5),
    "opus.webm": ("audio/webm", "webm", 0.508),
    "pcm.mov": ("video/quicktime", "mov", 0.1),
    "rf64.wav": ("audio/wav", "wav", 0.1),
    "sowt.aifc": ("audio/aiff", "aiff", 0.1),
}
PICTURES = {
    "a.avif": ("image/avif", "avif", (48, 32)),
    "square.avif": ("image/avif", "avif", (64, 64)),
    "a.bmp": ("image/bmp", "bmp", (48, 32)),
    "a.gif": ("image/gif", "gif", (48, 32)),
    "a.ico": ("image/x-icon", "ico", None),
    "a.jp2": ("image/jp2", "jp2", None),
    "a.jpg": ("image/jpeg", "jpg", (48, 32)),
    "a.png": ("image/png", "png", (48, 32)),
    "a.qoi": ("image/qoi", "qoi", None),
    "a.tiff": ("image/tiff", "tif", None),
    "a.webp": ("image/webp", "webp", (48, 32)),
    "lossless.webp": ("image/webp", "webp", (48, 32)),
    "progressive.jpg": ("image/jpeg", "jpg", (48, 32)),
}


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def inspect_path(path: Path, modality: Any, *, raw_asked: bool = False) -> Media:
    with path.open("rb") as file:
        return inspect(file, modality, raw_asked=raw_asked)


@pytest.fixture
def inspected(tmp_path: Path) -> Any:
    """`inspect` for bytes: returns their Media, or raises Unusable; both the same in memory and on disk."""

    def inspect_bytes(content: bytes, modality: Any = "music", *, raw_asked: bool = False) -> Media:
        path = tmp_path / "output"
        path.write_bytes(content)
        try:
            media = inspect_path(path, modality, raw_asked=raw_asked)
        except Unusable as error:
            with pytest.raises(Unusable, match=f"^{re.escape(str(error))}$"):
                inspect(io.BytesIO(content), modality, raw_asked=raw_asked)
            raise
        assert inspect(io.BytesIO(content), modality, raw_asked=raw_asked) == media
        return media

    return inspect_bytes


def test_every_sample_is_tested() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == {*KINDS, *PICTURES, "README.md"}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_audio_is_recognized_and_measured_where_possible(name: str) -> None:
    content_type, extension, seconds = KINDS[name]
    assert inspect_path(SAMPLES / name, "music") == Media(content_type, extension, seconds)


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_image_is_recognized_and_measured_where_possible(name: str) -> None:
    content_type, extension, size = PICTURES[name]
    width, height = size or (None, None)
    assert inspect_path(SAMPLES / name, "image") == Media(content_type, extension, width=width, height=height)


@pytest.mark.parametrize("name", [*PICTURES, *KINDS])
def test_a_file_of_another_modality_is_unusable(name: str) -> None:
    with pytest.raises(Unusable, match=r"^not (audio|image)/\* but "):
        inspect_path(SAMPLES / name, "image" if name in KINDS else "music")


@pytest.mark.parametrize("brand", [b"mp42", b"isom", b"iso6", b"dash", b"M4A ", b"M4B ", b"mp41", b"F4A ", b"XXXX"])
def test_the_brand_of_an_mp4_does_not_matter(inspected: Any, brand: bytes) -> None:
    content = sample("aac.m4a")
    assert inspected(content[:8] + brand + content[12:]) == Media("audio/mp4", "m4a", 0.5)
    assert inspected(sample("film.mp4").replace(b"isom", brand)).content_type == "video/mp4"


def test_an_mp4_may_begin_with_any_of_its_boxes(inspected: Any) -> None:
    content = sample("aac.m4a")
    size = int.from_bytes(content[:4], "big")
    assert inspected(struct.pack(">I4s8x", 16, b"wide") + content[size:]) == Media("audio/mp4", "m4a", 0.5)


def test_a_video_without_audio_is_unusable(inspected: Any) -> None:
    with pytest.raises(Unusable, match="without any sound"):
        inspected(sample("film.mp4").replace(b"soun", b"text"))


def id3(size: int, repeats: int = 1) -> bytes:
    packed = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    return (b"ID3\4\0\0" + packed + b"\xff" * size) * repeats


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.aac", "a.wav", "aac.m4a", "opus.ogg", "a.aiff", "opus.webm"])
@pytest.mark.parametrize("tags", [id3(0), id3(200), id3(300_000), id3(5000, repeats=3)], ids=["0", "200", "300k", "3"])
def test_tags_before_a_file_are_skipped(inspected: Any, name: str, tags: bytes) -> None:
    plain = inspect_path(SAMPLES / name, "music")
    # The offsets in an MP4 are wrong by the length of the tag, but its boxes are still found one after the other.
    assert inspected(tags + sample(name)) == plain


@pytest.mark.parametrize(
    "before", [bytes(1), bytes(5000), b"\xff", b"\xff\xfb\x90" * 50, b"junk\0" * 999, bytes(900_000)]
)
@pytest.mark.parametrize("name", ["a.mp3", "a.aac", "a.loas"])
def test_bytes_before_the_first_frame_do_not_matter(inspected: Any, name: str, before: bytes) -> None:
    assert inspected(before + sample(name)).content_type == KINDS[name][0]


def test_a_header_that_a_writer_left_at_zero_says_nothing(inspected: Any) -> None:
    mp3, aiff = bytearray(sample("a.mp3")), bytearray(sample("a.aiff"))
    at = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    assert at > 0
    mp3[at + 8 : at + 12] = bytes(4)
    assert inspected(bytes(mp3)) == Media("audio/mpeg", "mp3", None)
    at = aiff.find(b"COMM")
    aiff[at + 10 : at + 14] = bytes(4)
    assert inspected(bytes(aiff)) == Media("audio/aiff", "aiff", None)
    with pytest.raises(Unusable):
        inspected(bytes(aiff[: aiff.find(b"SSND")]) + b"SSND" + struct.pack(">I8x", 8))


def test_the_length_of_an_mp3_is_measured_behind_padding_too(inspected: Any) -> None:
    assert inspected(bytes(4000) + sample("a.mp3")) == Media("audio/mpeg", "mp3", 0.576)


def wav(kind: bytes, order: str, size: int, *before: bytes, data: bytes = bytes(1600)) -> bytes:
    form = struct.pack(f"{order}4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16_000, 2, 16)
    body = b"WAVE" + b"".join(before) + form + struct.pack(f"{order}4sI", b"data", size) + data
    return kind + struct.pack(f"{order}I", len(body) if size < 2**31 else size) + body


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        (wav(b"RIFF", "<", 1600), 0.1),
        (wav(b"RIFX", ">", 1600), 0.1),
        (wav(b"BW64", "<", 0xFFFF_FFFF, struct.pack("<4sIQQQI", b"ds64", 28, 1700, 1600, 800, 0)), 0.1),
        (wav(b"RIFF", "<", 0xFFFF_FFFF), 0.1),
        (wav(b"RIFF", "<", 0x7FFF_FFFF), 0.1),
        (wav(b"RIFF", "<", 0), 0.1),
        # A wrong length written by an encoder is no reason to refuse a file.
        (wav(b"RIFF", "<", 1644), 0.1),
    ],
)
def test_every_variant_of_wav_is_recognized(inspected: Any, content: bytes, seconds: float) -> None:
    assert inspected(content) == Media("audio/wav", "wav", seconds)


@pytest.mark.parametrize("name", ["a.wav", "aac.m4a", "film.mp4", "a.aiff", "a.png", "opus.webm"])
def test_a_file_that_is_cut_off_is_unusable(inspected: Any, name: str) -> None:
    content = sample(name)
    if name in ("a.wav", "a.aiff"):
        content = wav(b"RIFF", "<", 100_000) if name == "a.wav" else content.replace(b"SSND\0\0", b"SSND\0\1")
    with pytest.raises(Unusable, match="cut off"):
        inspected(
            content if name in ("a.wav", "a.aiff") else content[: len(content) * 2 // 3],
            "image" if name in PICTURES else "music",
        )


@pytest.mark.parametrize(
    ("name", "at", "broken"),
    [
        ("a.wav", 28, bytes(4)),
        ("a.flac", 18, bytes(8)),
        ("opus.ogg", 14, bytes(2)),
        ("aac.m4a", 0, None),
        ("opus.webm", sample("opus.webm").index(b"\x44\x89\x88") + 3, b"\xff" * 8),
    ],
)
def test_a_file_that_cannot_be_measured_is_kept(inspected: Any, name: str, at: int, broken: bytes | None) -> None:
    content = sample(name)
    if broken is None:
        content = content.replace(b"mvhd" + bytes(12), b"mvhd" + b"\1" + b"\xff" * 11)
    else:
        content = content[:at] + broken + content[at + len(broken) :]
    media = inspected(content)
    assert media.content_type.split("/")[0] in ("audio", "video")
    assert media.duration_s is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (id3(100), "a tag without anything"),
        (b"<!DOCTYPE html><html><body>Please log in", "text/html"),
        (b"\xef\xbb\xbf  <html lang=en>", "text/html"),
        ("<html>".encode("utf-16"), "markup"),
        (b"<title>Just a moment...</title>", "text/html"),
        (b'{"detail": "expired"}', "application/json"),
        (b' [{"url": "https://x"}]', "application/json"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "application/xml"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "svg"),
        (b'<svg onload="alert(1)">', "svg"),
        (b"nothing in particular", "text/plain"),
        ("\u00e9\u4e2d" * 3000 + "", "text/plain"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "text/plain"),
        (b"%PDF-1.7\n\0\1\2", "application/pdf"),
        (b"PK\3\4" + bytes(60), "not media"),
        (b"\x7fELF\2\1\1" + bytes(60), "not media"),
        (bytes(4096), "not media"),
        (b"ID3\4\0\0\0\0\0\0" + b"<html>" * 1000, "text/html"),
    ],
)
@pytest.mark.parametrize("modality", ["music", "image"])
def test_the_error_names_content_that_is_not_media(
    inspected: Any, content: bytes | str, expected: str, modality: str
) -> None:
    with pytest.raises(Unusable, match=expected):
        inspected(content.encode() if isinstance(content, str) else content, modality)


@pytest.mark.parametrize(
    "raw",
    [
        bytes(range(128, 250)) * 20,
        bytes(9000) + bytes(range(128, 250)) * 20,
        b"\0\0\1\0\1\0" + bytes(range(128, 250)) * 20,
        b"\xff\x0a" + bytes(range(128, 250)) * 20,
        b"P1\n" + bytes(range(256)) * 20,
        b"\x0b\x77\0\0\0" + bytes(range(128, 250)) * 20,
    ],
    ids=["noise", "silence first", "icon", "jxl", "pnm", "ac3"],
)
def test_raw_audio_is_accepted_if_it_was_requested(inspected: Any, raw: bytes) -> None:
    assert inspected(raw, raw_asked=True) == Media("application/octet-stream", "raw")


def test_raw_audio_is_not_accepted_unless_it_was_requested(inspected: Any) -> None:
    with pytest.raises(Unusable, match="not media"):
        inspected(bytes(range(128, 250)) * 20)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b'{"detail": "expired"}', "application/json"),
        (b"<html>Please log in", "text/html"),
        (b"PK\3\4" + bytes(60), "not media"),
        (b"%PDF-1.7\n\0\1\2", "application/pdf"),
        (sample("a.png"), "image/png"),
    ],
)
def test_other_content_is_not_accepted_as_raw_audio(inspected: Any, content: bytes, expected: str) -> None:
    with pytest.raises(Unusable, match=expected):
        inspected(content, raw_asked=True)


def test_a_file_with_a_signature_is_not_raw_audio_even_if_that_was_requested(inspected: Any) -> None:
    for name in ("a.wav", "a.mp3", "aac.m4a", "a.flac", "a.au"):
        content_type, extension, seconds = KINDS[name]
        assert inspected(sample(name), raw_asked=True) == Media(content_type, extension, seconds)
    with pytest.raises(Unusable):
        inspected(bytes(range(128, 250)) * 20, "image", raw_asked=True)


@pytest.mark.parametrize(
    ("arguments", "raw"),
    [
        ({"audio_setting": {"format": "pcm"}}, True),
        ({"audio_setting": {"sample_rate": 44_100, "format": "PCM "}}, True),
        ({"output_format": "pcm_44100"}, True),
        ({"output_format": "ulaw_8000"}, True),
        ({"audio_format": "pcm_s16le"}, True),
        ({"encoding": "linear16"}, True),
        ({"codec": "s16le", "container": "raw"}, True),
        ({"response_format": "audio/L16;rate=44100"}, True),
        ({"audio_setting": {"format": "mp3"}}, False),
        ({"codec": "pcm_s16le", "container": "wav"}, False),
        ({"format": "wav"}, False),
        ({"prompt": "pcm", "style": "raw", "title": "raw"}, False),
        ({"output_format": "rawhide"}, False),
        ({"format": ["pcm"], "seed": 3, "raw": True}, False),
        ({}, False),
    ],
)
def test_the_arguments_show_whether_raw_audio_was_requested(arguments: Any, raw: bool) -> None:
    assert asks_for_raw(arguments) is raw


def test_a_file_extension_can_mean_raw_audio() -> None:
    assert is_named_raw("https://x.y/z/a.PCM?token=1")
    assert is_named_raw("https://x.y/a.s16le")
    assert not is_named_raw("https://x.y/pcm/a.mp3?b=a.pcm")
    assert not is_named_raw("https://[x/a.pcm")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "opus.ogg", "aac.m4a", "opus.webm", "a.aiff", "film.mp4", "a.w64"])
@pytest.mark.parametrize(
    "before", [b"\r\n", b"\n", b"\0\0", b"\0", b" ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b"\r\n" * 30], ids=repr
)
def test_whitespace_before_an_audio_file_is_skipped(inspected: Any, name: str, before: bytes) -> None:
    assert inspected(before + sample(name)) == inspect_path(SAMPLES / name, "music")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.bmp", "a.avif"])
@pytest.mark.parametrize("before", [b"\r\n", b"\0\0", b"\xef\xbb\xbf"], ids=repr)
def test_whitespace_before_an_image_is_skipped(inspected: Any, name: str, before: bytes) -> None:
    assert inspected(before + sample(name), "image") == inspect_path(SAMPLES / name, "image")


@pytest.mark.parametrize("before", [b"\x01", b"7d04\r\n", b"--x\r\n\r\n", b"\xff\xfe\x80"], ids=repr)
def test_stray_bytes_before_a_file_are_skipped(inspected: Any, before: bytes) -> None:
    assert inspected(before + sample("a.wav")) == Media("audio/wav", "wav", 0.1)


@pytest.mark.parametrize(
    "content",
    [
        b"\r\nGIF89a is a format, and RIFF....WAVE another",
        b"\r\n<html>Please log in",
        b"\xef\xbb\xbfRIFF....WAVE",
        bytes(64) + b"PK\3\4" + bytes(60),
        b"\0\0P1\n" + bytes(60),
        b"PK\3\4" + bytes(26) + sample("a.wav"),
    ],
)
def test_content_that_is_not_media_is_unusable_behind_whitespace_too(inspected: Any, content: bytes) -> None:
    for modality in ("music", "image"):
        with pytest.raises(Unusable):
            inspected(content, modality)


def boxes(content: bytes) -> dict[bytes, bytes]:
    found, at = {}, 0
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        found[name] = content[at : at + size]
        at += size
    return found


@pytest.mark.parametrize("name", [b"free", b"uuid", b"skip", b"wide", b"udta", b"junk", b"styp"])
def test_a_truncated_last_box_without_audio_does_not_matter(inspected: Any, name: bytes) -> None:
    for content in (sample("aac.m4a"), sample("frag.mp4")):
        assert inspected(content + struct.pack(">I4s", 5000, name) + b"abc").content_type == "audio/mp4"


@pytest.mark.parametrize("missing", [1, 3, 100, 400])
def test_a_few_missing_bytes_of_audio_are_tolerated(inspected: Any, missing: int) -> None:
    parts = boxes(sample("aac.m4a"))
    first = parts[b"ftyp"] + parts[b"moov"] + parts[b"mdat"]
    assert inspected(first[:-missing]) == Media("audio/mp4", "m4a", 0.5)
    assert inspected(sample("frag.mp4")[: -67 - missing]).content_type == "audio/mp4"
    assert inspected(sample("opus.webm")[:-missing]) == Media("audio/webm", "webm", 0.508)


@pytest.mark.parametrize("name", ["aac.m4a", "a.3gp", "film.mp4", "alac.m4a"])
def test_an_index_behind_a_box_of_the_wrong_length_is_found(inspected: Any, name: str) -> None:
    content_type, extension, seconds = KINDS[name]
    content, middle = sample(name), 1000
    for slip in (content[:middle] + content[middle + 3 :], content[:middle] + b"abc" + content[middle:]):
        assert inspected(slip) == Media(content_type, extension, seconds)
    with pytest.raises(Unusable, match="cut off"):
        inspected(content[: content.index(b"moov") + 40])


def test_a_few_missing_bytes_of_the_index_are_tolerated(inspected: Any) -> None:
    assert inspected(sample("aac.m4a")[:-3]) == Media("audio/mp4", "m4a", 0.5)
    assert inspected(sample("a.png")[:-3], "image") == inspect_path(SAMPLES / "a.png", "image")


@pytest.mark.parametrize("left", [0.05, 0.3, 0.6, 0.85])
def test_an_mp4_that_starts_with_its_index_and_is_cut_off_is_unusable(inspected: Any, left: float) -> None:
    parts = boxes(sample("aac.m4a"))
    index = parts[b"ftyp"] + parts[b"moov"]
    for mdat in (parts[b"mdat"], struct.pack(">I4s", 1_000_008, b"mdat") + bytes(1_000_000)):
        with pytest.raises(Unusable, match="cut off"):
            inspected(index + mdat[: int(len(mdat) * left)])
    with pytest.raises(Unusable, match="cut off"):
        inspected(parts[b"ftyp"] + parts[b"mdat"] + parts[b"moov"][: int(len(parts[b"moov"]) * left)])


@pytest.mark.parametrize(
    ("name", "modality"), [(name, "music") for name in KINDS] + [(name, "image") for name in PICTURES]
)
def test_damaged_files_are_measured_or_unusable_within_bounded_time(inspected: Any, name: str, modality: str) -> None:
    content = sample(name)
    began = time.monotonic()
    for at in range(0, len(content), max(1, len(content) // 60)):
        for damage in (b"", b"\xff" * 4, bytes(4)):
            broken = content[:at] + damage + (content[at + len(damage) :] if damage else b"")
            try:
                media = inspected(broken, modality)
            except Unusable:
                continue
            assert media.duration_s is None or media.duration_s > 0
    assert time.monotonic() - began < patient(60)


@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\0\x10ftypM4A \0\0\0\0" + struct.pack(">I4s", 8, b"free") * 2_000_000,
        b"\0\0\0\x10ftypM4A \0\0\0\0" + struct.pack(">I4s", 8, b"moov") * 2_000_000,
        b"RIFF\xff\xff\xff\xffWAVE" + struct.pack("<4sI", b"junk", 0) * 2_000_000,
        bytes.fromhex("1a45dfa380") + bytes.fromhex("18538067") + b"\x01" + b"\xff" * 7 + b"\xec\x80" * 5_000_000,
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sI", 0, b"tEXt", 0) * 1_000_000,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 3_000_000,
        b"\xff\xfb\x90\x64" * 3_000_000,
        b"\xff\xff" * 6_000_000,
        b"\0\0\0\x10ftypM4A \0\0\0\0" + b"".join(struct.pack(">I4s", 8 * n, b"moov") for n in range(50_000, 0, -1)),
        b"\0\0\0\x10ftypavif\0\0\0\0\0\1\0\0meta\0\0\0\0"
        + b"".join(struct.pack(">I4s", 8 * n, b"ipco") for n in range(8000, 0, -1)),
    ],
    ids=["free", "moov", "wav", "ebml", "png", "jpeg", "mp3", "sync", "nested", "ipco"],
)
@pytest.mark.parametrize("modality", ["music", "image"])
def test_a_file_of_millions_of_parts_is_inspected_in_bounded_time(
    inspected: Any, content: bytes, modality: str
) -> None:
    began = time.process_time()
    with suppress(Unusable):
        inspected(content, modality)
    assert time.process_time() - began < 5


@given(content=st.binary(max_size=300), modality=st.sampled_from(["music", "image"]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_unusable(content: bytes, modality: Any) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        for each in (file, io.BytesIO(content)):
            with suppress(Unusable):
                inspect(each, modality)


@pytest.mark.parametrize(
    "name",
    ["a.mp3", "a.wav", "a.aac", "a.aiff", "aac.m4a", "film.mp4", "opus.ogg", "a.png", "a.jpg", "a.gif", "a.webp"],
)
def test_a_truncated_file_is_not_whole(tmp_path: Path, name: str) -> None:
    assert is_whole_in_both(tmp_path, sample(name))
    for size in (len(sample(name)) - 1, len(sample(name)) // 2, 5):
        assert not is_whole_in_both(tmp_path, sample(name)[:size])


def is_whole_in_both(folder: Path, content: bytes) -> bool:
    """Whether it is whole, which is said the same of it in memory and on disk."""
    (folder / "file").write_bytes(content)
    with (folder / "file").open("rb") as file:
        whole = is_whole(file)
    assert is_whole(io.BytesIO(content)) == whole
    return whole


def test_text_is_recognized_although_it_ends_inside_a_character() -> None:
    assert text_in("\u4e2d".encode()[:2]) == "text/plain"
    assert text_in(b"\xff\xfb\x90") is None
