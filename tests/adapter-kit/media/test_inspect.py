"""What a file is, told from its bytes: real files of every kind, the same in odd wrappings, and hostile ones."""

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


@pytest.fixture
def told(tmp_path: Path) -> Any:
    """What bytes are told to be."""

    def tell(content: bytes, modality: Any = "music", declared: str | None = None, *, raw_asked: bool = False) -> Media:
        path = tmp_path / "output"
        path.write_bytes(content)
        return inspect(path, modality, declared, raw_asked=raw_asked)

    return tell


def test_every_sample_is_looked_at() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == {*KINDS, *PICTURES, "README.md"}


@pytest.mark.parametrize("name", KINDS)
def test_sound_of_every_kind_is_known_and_measured_where_it_can_be(name: str) -> None:
    content_type, extension, seconds = KINDS[name]
    assert inspect(SAMPLES / name, "music") == Media(content_type, extension, seconds)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_every_kind_are_known_and_measured_where_they_can_be(name: str) -> None:
    content_type, extension, size = PICTURES[name]
    width, height = size or (None, None)
    assert inspect(SAMPLES / name, "image") == Media(content_type, extension, width=width, height=height)


@pytest.mark.parametrize("name", [*PICTURES, *KINDS])
def test_one_modality_s_files_are_not_the_other_s(name: str) -> None:
    with pytest.raises(Unusable, match=r"^not (audio|image)/\* but "):
        inspect(SAMPLES / name, "image" if name in KINDS else "music")


@pytest.mark.parametrize("brand", [b"mp42", b"isom", b"iso6", b"dash", b"M4A ", b"M4B ", b"mp41", b"F4A ", b"XXXX"])
def test_the_brand_of_an_mp4_does_not_matter(told: Any, brand: bytes) -> None:
    content = sample("aac.m4a")
    assert told(content[:8] + brand + content[12:]) == Media("audio/mp4", "m4a", 0.5)
    assert told(sample("film.mp4").replace(b"isom", brand)).content_type == "video/mp4"


def test_an_mp4_may_begin_with_any_of_its_boxes(told: Any) -> None:
    content = sample("aac.m4a")
    size = int.from_bytes(content[:4], "big")
    assert told(struct.pack(">I4s8x", 16, b"wide") + content[size:]) == Media("audio/mp4", "m4a", 0.5)


def test_a_film_without_sound_is_not_what_was_asked_for(told: Any) -> None:
    with pytest.raises(Unusable, match="without any sound"):
        told(sample("film.mp4").replace(b"soun", b"text"))


def id3(size: int, repeats: int = 1) -> bytes:
    packed = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    return (b"ID3\4\0\0" + packed + b"\xff" * size) * repeats


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.aac", "a.wav", "aac.m4a", "opus.ogg", "a.aiff", "opus.webm"])
@pytest.mark.parametrize("tags", [id3(0), id3(200), id3(300_000), id3(5000, repeats=3)], ids=["0", "200", "300k", "3"])
def test_tags_before_a_file_are_no_part_of_it(told: Any, name: str, tags: bytes) -> None:
    plain = inspect(SAMPLES / name, "music")
    # The places that an MP4 names are off by the tag, but its index is where its boxes say.
    assert told(tags + sample(name)) == plain


@pytest.mark.parametrize(
    "before", [bytes(1), bytes(5000), b"\xff", b"\xff\xfb\x90" * 50, b"junk\0" * 999, bytes(900_000)]
)
@pytest.mark.parametrize("name", ["a.mp3", "a.aac", "a.loas"])
def test_what_is_before_the_first_frame_does_not_matter(told: Any, name: str, before: bytes) -> None:
    assert told(before + sample(name)).content_type == KINDS[name][0]


def test_an_mp3_s_length_is_told_behind_padding_too(told: Any) -> None:
    assert told(bytes(4000) + sample("a.mp3")) == Media("audio/mpeg", "mp3", 0.576)


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
        # A writer's slip is no reason to turn a file away.
        (wav(b"RIFF", "<", 1644), 0.1),
    ],
)
def test_a_wav_by_any_name(told: Any, content: bytes, seconds: float) -> None:
    assert told(content) == Media("audio/wav", "wav", seconds)


@pytest.mark.parametrize("name", ["a.wav", "aac.m4a", "film.mp4", "a.aiff", "a.png", "opus.webm"])
def test_a_file_that_is_cut_off_is_told(told: Any, name: str) -> None:
    content = sample(name)
    if name in ("a.wav", "a.aiff"):
        content = wav(b"RIFF", "<", 100_000) if name == "a.wav" else content.replace(b"SSND\0\0", b"SSND\0\1")
    with pytest.raises(Unusable, match="cut off"):
        told(
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
def test_what_cannot_be_measured_is_kept_all_the_same(told: Any, name: str, at: int, broken: bytes | None) -> None:
    content = sample(name)
    if broken is None:
        content = content.replace(b"mvhd" + bytes(12), b"mvhd" + b"\1" + b"\xff" * 11)
    else:
        content = content[:at] + broken + content[at + len(broken) :]
    media = told(content)
    assert media.content_type.split("/")[0] in ("audio", "video")
    assert media.duration_s is None


@pytest.mark.parametrize(
    ("content", "said"),
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
def test_what_is_plainly_not_media_is_named(told: Any, content: bytes | str, said: str, modality: str) -> None:
    with pytest.raises(Unusable, match=said):
        told(content.encode() if isinstance(content, str) else content, modality, "audio/mpeg")


def test_raw_sound_is_taken_on_its_provider_s_word(told: Any) -> None:
    noise = bytes(range(128, 250)) * 20
    assert told(noise, declared="audio/L16; rate=44100") == Media("application/octet-stream", "raw")
    for declared in (None, "audio/mpeg", "application/octet-stream"):
        with pytest.raises(Unusable):
            told(noise, declared=declared)


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
def test_raw_sound_is_taken_where_it_was_asked_for(told: Any, raw: bytes) -> None:
    assert told(raw, raw_asked=True) == Media("application/octet-stream", "raw")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b'{"detail": "expired"}', "application/json"),
        (b"<html>Please log in", "text/html"),
        (b"PK\3\4" + bytes(60), "not media"),
        (b"%PDF-1.7\n\0\1\2", "application/pdf"),
        (sample("a.png"), "image/png"),
    ],
)
def test_what_is_plainly_something_else_is_no_raw_sound(told: Any, content: bytes, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        told(content, raw_asked=True)


def test_what_bears_a_mark_is_no_raw_sound_whatever_was_asked_for(told: Any) -> None:
    for name in ("a.wav", "a.mp3", "aac.m4a", "a.flac", "a.au"):
        content_type, extension, seconds = KINDS[name]
        assert told(sample(name), raw_asked=True) == Media(content_type, extension, seconds)
    with pytest.raises(Unusable):
        told(bytes(range(128, 250)) * 20, "image", raw_asked=True)


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
def test_whether_raw_sound_was_asked_for_is_told_by_the_arguments(arguments: Any, raw: bool) -> None:
    assert asks_for_raw(arguments) is raw


def test_a_name_may_say_that_sound_is_raw() -> None:
    assert is_named_raw("https://x.y/z/a.PCM?token=1")
    assert is_named_raw("https://x.y/a.s16le")
    assert not is_named_raw("https://x.y/pcm/a.mp3?b=a.pcm")
    assert not is_named_raw("https://[x/a.pcm")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "opus.ogg", "aac.m4a", "opus.webm", "a.aiff", "film.mp4", "a.w64"])
@pytest.mark.parametrize(
    "before", [b"\r\n", b"\n", b"\0\0", b"\0", b" ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b"\r\n" * 30], ids=repr
)
def test_blanks_before_a_file_are_no_part_of_it(told: Any, name: str, before: bytes) -> None:
    assert told(before + sample(name)) == inspect(SAMPLES / name, "music")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.bmp", "a.avif"])
@pytest.mark.parametrize("before", [b"\r\n", b"\0\0", b"\xef\xbb\xbf"], ids=repr)
def test_blanks_before_a_picture_are_no_part_of_it(told: Any, name: str, before: bytes) -> None:
    assert told(before + sample(name), "image") == inspect(SAMPLES / name, "image")


@pytest.mark.parametrize("before", [b"\x01", b"7d04\r\n", b"--x\r\n\r\n", b"\xff\xfe\x80"], ids=repr)
def test_stray_bytes_before_a_file_are_no_part_of_it(told: Any, before: bytes) -> None:
    assert told(before + sample("a.wav")) == Media("audio/wav", "wav", 0.1)


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
def test_what_is_not_media_is_none_behind_blanks_either(told: Any, content: bytes) -> None:
    for modality in ("music", "image"):
        with pytest.raises(Unusable):
            told(content, modality)


def boxes(content: bytes) -> dict[bytes, bytes]:
    found, at = {}, 0
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        found[name] = content[at : at + size]
        at += size
    return found


@pytest.mark.parametrize("name", [b"free", b"uuid", b"skip", b"wide", b"udta", b"junk", b"styp"])
def test_a_short_last_box_that_holds_no_sound_does_not_matter(told: Any, name: bytes) -> None:
    for content in (sample("aac.m4a"), sample("frag.mp4")):
        assert told(content + struct.pack(">I4s", 5000, name) + b"abc").content_type == "audio/mp4"


@pytest.mark.parametrize("missing", [1, 3, 100, 400])
def test_a_few_bytes_less_of_the_sound_are_no_reason_to_turn_it_away(told: Any, missing: int) -> None:
    parts = boxes(sample("aac.m4a"))
    first = parts[b"ftyp"] + parts[b"moov"] + parts[b"mdat"]
    assert told(first[:-missing]) == Media("audio/mp4", "m4a", 0.5)
    assert told(sample("frag.mp4")[: -67 - missing]).content_type == "audio/mp4"
    assert told(sample("opus.webm")[:-missing]) == Media("audio/webm", "webm", 0.508)


@pytest.mark.parametrize("name", ["aac.m4a", "a.3gp", "film.mp4", "alac.m4a"])
def test_an_index_behind_a_part_of_the_wrong_length_is_found(told: Any, name: str) -> None:
    content_type, extension, seconds = KINDS[name]
    content, middle = sample(name), 1000
    for slip in (content[:middle] + content[middle + 3 :], content[:middle] + b"abc" + content[middle:]):
        assert told(slip) == Media(content_type, extension, seconds)
    with pytest.raises(Unusable, match="cut off"):
        told(content[: content.index(b"moov") + 40])


def test_nor_are_a_few_bytes_of_its_index(told: Any) -> None:
    assert told(sample("aac.m4a")[:-3]) == Media("audio/mp4", "m4a", 0.5)
    assert told(sample("a.png")[:-3], "image") == inspect(SAMPLES / "a.png", "image")


@pytest.mark.parametrize("left", [0.05, 0.3, 0.6, 0.85])
def test_an_mp4_that_begins_with_its_index_may_be_cut_off_too(told: Any, left: float) -> None:
    parts = boxes(sample("aac.m4a"))
    index = parts[b"ftyp"] + parts[b"moov"]
    for mdat in (parts[b"mdat"], struct.pack(">I4s", 1_000_008, b"mdat") + bytes(1_000_000)):
        with pytest.raises(Unusable, match="cut off"):
            told(index + mdat[: int(len(mdat) * left)])
    with pytest.raises(Unusable, match="cut off"):
        told(parts[b"ftyp"] + parts[b"mdat"] + parts[b"moov"][: int(len(parts[b"moov"]) * left)])


@pytest.mark.parametrize(
    ("name", "modality"), [(name, "music") for name in KINDS] + [(name, "image") for name in PICTURES]
)
def test_damaged_files_end_in_good_time_and_in_one_way(told: Any, name: str, modality: str) -> None:
    content = sample(name)
    began = time.monotonic()
    for at in range(0, len(content), max(1, len(content) // 60)):
        for damage in (b"", b"\xff" * 4, bytes(4)):
            broken = content[:at] + damage + (content[at + len(damage) :] if damage else b"")
            try:
                media = told(broken, modality)
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
def test_a_file_of_millions_of_parts_is_looked_at_in_a_bounded_way(told: Any, content: bytes, modality: str) -> None:
    began = time.process_time()
    with suppress(Unusable):
        told(content, modality)
    assert time.process_time() - began < 5


@given(content=st.binary(max_size=300), modality=st.sampled_from(["music", "image"]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_unusable(content: bytes, modality: Any) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with suppress(Unusable):
            inspect(Path(file.name), modality)


@pytest.mark.parametrize(
    "name",
    ["a.mp3", "a.wav", "a.aac", "a.aiff", "aac.m4a", "film.mp4", "opus.ogg", "a.png", "a.jpg", "a.gif", "a.webp"],
)
def test_a_file_says_itself_whether_it_is_whole(tmp_path: Path, name: str) -> None:
    assert is_whole(SAMPLES / name)
    cut = tmp_path / "cut"
    for size in (len(sample(name)) - 1, len(sample(name)) // 2, 5):
        cut.write_bytes(sample(name)[:size])
        assert not is_whole(cut)


def test_text_may_end_within_a_character() -> None:
    assert text_in("\u4e2d".encode()[:2]) == "text/plain"
    assert text_in(b"\xff\xfb\x90") is None
