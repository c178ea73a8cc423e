"""Detection of media types by the signature at the start of a file. Pure.

MPEG audio is detected by its frames (`frames`); MP4 and Matroska are classified by their tracks (`containers`).
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Final

import puremagic

UNKNOWN_TYPE: Final = "application/octet-stream"
MIN_SIGNATURE_BYTES: Final = 4
"""Shorter signatures are ignored: they occur by chance."""
BLANK_BYTES: Final = 64
"""Largest offset at which a signature counts if only blanks precede it."""
STRAY_BYTES: Final = 16
"""Largest offset at which a long signature counts, whatever precedes it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: its media type and its file name extension."""

    content_type: str
    extension: str

    @property
    def family(self) -> str:
        """The top-level type, such as `audio`, `image` or `video`."""
        return self.content_type.partition("/")[0]


WAV: Final = Kind("audio/wav", "wav")
MP3: Final = Kind("audio/mpeg", "mp3")
AAC: Final = Kind("audio/aac", "aac")
LATM: Final = Kind("audio/mp4a-latm", "loas")
FLAC: Final = Kind("audio/flac", "flac")
OGG: Final = Kind("audio/ogg", "ogg")
AIFF: Final = Kind("audio/aiff", "aiff")
PNG: Final = Kind("image/png", "png")
JPEG: Final = Kind("image/jpeg", "jpg")
WEBP: Final = Kind("image/webp", "webp")
GIF: Final = Kind("image/gif", "gif")
BMP: Final = Kind("image/bmp", "bmp")
AC3: Final = Kind("audio/ac3", "ac3")
JXL: Final = Kind("image/jxl", "jxl")
PNM: Final = Kind("image/x-portable-anymap", "pnm")
MP4: Final = Kind("video/mp4", "mp4")
MATROSKA: Final = Kind("video/x-matroska", "mkv")
"""The tracks of MP4 and Matroska files determine their media type."""

_SIGNATURES: Final = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (rb"(RIFF|RIFX|RF64|BW64)....WAVE", WAV),
        (rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0", Kind("audio/x-w64", "w64")),
        (rb"fLaC[\x00-\x06\x80-\x86]", FLAC),
        (rb"OggS\x00.{0,400}?\x80theora", Kind("video/ogg", "ogv")),
        (rb"OggS\x00", OGG),
        (rb"FORM....AIF[FC]", AIFF),
        (rb"caff\x00[\x01\x02]", Kind("audio/x-caf", "caf")),
        (rb"#!AMR-WB(_MC1\.0)?\n", Kind("audio/amr-wb", "awb")),
        (rb"#!AMR(_MC1\.0)?\n", Kind("audio/amr", "amr")),
        (rb"ADIF", AAC),
        (rb"MPCK|MP\+[\x07\x17\x27]", Kind("audio/x-musepack", "mpc")),
        (rb"DSD \x1c\0\0\0\0\0\0\0", Kind("audio/x-dsf", "dsf")),
        (rb"\x0b\x77..[\x00-\xa5]", AC3),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", Kind("audio/x-ms-asf", "asf")),
        (rb"\x1a\x45\xdf\xa3", MATROSKA),
        (rb"....(ftyp|styp|moov|mdat|wide|pnot)", MP4),
        (rb"\x89PNG\r\n\x1a\n", PNG),
        (rb"\xff\xd8\xff", JPEG),
        (rb"RIFF....WEBP", WEBP),
        (rb"GIF8[79]a", GIF),
        (rb"BM.{4}\0{4}.{3}\0[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", BMP),
        (rb"II[*+]\0|MM\0[*+]", Kind("image/tiff", "tif")),
        (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", JXL),
        (rb"P[1-7][\r\n \t]", PNM),
        (rb"qoif.{8}[\x03\x04][\x00\x01]", Kind("image/qoi", "qoi")),
        (rb"#\?(RADIANCE|RGBE)\n", Kind("image/vnd.radiance", "hdr")),
        (rb"\0\0\0\x0cjP  \r\n\x87\n", Kind("image/jp2", "jp2")),
    )
)
SHORT_SIGNATURES: Final = frozenset({AC3, JXL, PNM})
"""Kinds whose signatures are short enough to occur by chance."""
_LONG_SIGNATURES: Final = frozenset({WAV, FLAC, OGG, AIFF, PNG, WEBP, GIF, MP4, MATROSKA})
_BLANK: Final = re.compile(rb"(\xef\xbb\xbf|[\0\s]){0,%d}" % BLANK_BYTES)
_TS: Final = re.compile(rb"(G.{187}){3}", re.DOTALL)
_MEDIA_TYPE: Final = re.compile(r"(audio|image|video)/[a-z0-9][a-z0-9.+-]{0,80}")
_EXTENSION: Final = re.compile(r"\.?([a-z0-9]{1,8})")
_SCRIPTED: Final = re.compile(r"svg|xml|html")
"""Types whose content may contain scripts that a browser runs."""
_NAMED_TEXT: Final = (
    (
        re.compile(rb"\s*(<!doctype\s+html|<(html|head|body|script|title|h1|p|div|center)\b)", re.IGNORECASE),
        "text/html",
    ),
    (re.compile(rb"\s*+(<\?xml|<!--|<!doctype)?.{0,1000}?<svg\b", re.IGNORECASE | re.DOTALL), "image/svg+xml"),
    (re.compile(rb"\s*<\?xml", re.IGNORECASE), "application/xml"),
    (re.compile(rb"\s*<[a-z!]", re.IGNORECASE), "markup"),
    (re.compile(rb'\s*[\[{"]'), "application/json"),
)
_NOT_IN_TEXT: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_BOMS: Final = (b"\xef\xbb\xbf", b"\xff\xfe<\0", b"\xfe\xff\0<")


def kind_by_signature(head: bytes) -> Kind | None:
    """The kind that the signature at the start of `head` identifies; None if it is in no list of Segue's own."""
    return next((kind for signature, kind in _SIGNATURES if signature.match(head)), None)


def kind_at_offset(head: bytes) -> tuple[Kind, int] | None:
    """The kind whose signature follows blanks or stray bytes, and its offset; None if there is none."""
    blank = _BLANK.match(head)
    for at in range(1, BLANK_BYTES + 1):
        kind = next((kind for signature, kind in _SIGNATURES if signature.match(head, at)), None)
        if kind is None or kind in SHORT_SIGNATURES:
            continue
        if (blank and at <= blank.end()) or (at <= STRAY_BYTES and kind in _LONG_SIGNATURES):
            return kind, at
    return None


def other_kind(head: bytes) -> Kind | None:
    """A kind from puremagic's table that Segue stores without measuring it; None if it is not media."""
    if _TS.match(head):
        return Kind("video/mp2t", "ts")
    for match in _guesses(head):
        if len(match.byte_match) < MIN_SIGNATURE_BYTES or not _MEDIA_TYPE.fullmatch(match.mime_type or ""):
            continue
        if not _SCRIPTED.search(match.mime_type):
            named = _EXTENSION.fullmatch(match.extension)
            return Kind(match.mime_type, named[1] if named else "bin")
    return None


def text_in(head: bytes) -> str | None:
    """The media type of a text file, or "markup"; None if the bytes are not text."""
    for bom in _BOMS:
        if head.startswith(bom):
            return text_in(head[len(bom) :]) if bom == _BOMS[0] else "markup"
    if _NOT_IN_TEXT.search(head):
        return None
    try:
        # An incremental decoder accepts an incomplete character at the end.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return None
    return next((name for pattern, name in _NAMED_TEXT if pattern.match(head)), "text/plain")


def describe(head: bytes) -> str:
    """The media type or extension that puremagic finds for the bytes, for messages."""
    guess = next(iter(_guesses(head)), None)
    return (guess.mime_type or guess.extension if guess else "") or "something unknown"


def _guesses(head: bytes) -> list[puremagic.main.PureMagicWithConfidence]:
    try:
        return list(puremagic.magic_string(head))
    except (puremagic.PureError, ValueError):
        return []
