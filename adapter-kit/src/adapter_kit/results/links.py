"""Normalization of the links in a model's result, so that they can be fetched. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from adapter_kit.media.frames import after_tags, find_frames
from adapter_kit.media.magic import kind_by_signature
from adapter_kit.results.data_urls import data_url

MAX_URL_CHARS: Final = 8000
MAX_TEXT_CHARS: Final = 100_000
"""Only this many characters of a text are searched for links."""
MIN_BASE64_CHARS: Final = 128

_NOT_STORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_SCHEME: Final = re.compile(r"(https?):", re.IGNORECASE)
_EDGES: Final = "".join(map(chr, range(33))) + "\u00a0\ufeff\u200b"
_ADDRESS: Final = re.compile(r"//([^/?#\\]++)([^\r\n]*+)")
_STRAY_PERCENT: Final = re.compile(r"%(?![0-9a-fA-F]{2})")
_KEPT: Final = "%/?#:@!$&'()*+,;=~-._[]"
_WITHIN: Final = re.compile(
    r"""https?://[^\s"'<>\\`)\]}|]+|data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/_=-]+""", re.IGNORECASE
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_ENDING: Final = re.compile(r"\.([a-z0-9]{2,12})$")
_ENDING_IN_QUERY: Final = re.compile(r"\.([a-z0-9]{2,5})(?=$|[&\"';])")
_SOUND: Final = (
    "mp3 wav wave flac ogg oga opus m4a m4b aac aif aiff aifc caf amr wma weba mka mp2 mpga mid midi au pcm ac3"
)
_FILM: Final = "mp4 m4v mov webm mkv avi mpg mpeg ogv ts 3gp flv wmv"
_PICTURE: Final = "png jpg jpeg jpe webp gif avif heic heif jxl bmp tif tiff ico svg"
_OTHER: Final = (
    "json jsonl txt lrc srt vtt ass html htm xml csv tsv md zip gz tar pdf log yaml yml js css pt safetensors"
)
_FAMILIES: Final = {
    **dict.fromkeys(_SOUND.split(), "audio"),
    **dict.fromkeys(_FILM.split(), "video"),
    **dict.fromkeys(_PICTURE.split(), "image"),
    **dict.fromkeys(_OTHER.split(), "other"),
}
"""The media family of a file extension; others, such as `bin`, are unknown."""


def link_in(text: str) -> str | None:
    """The text as a link that can be fetched; None if it is not a link.

    As in browsers (https://url.spec.whatwg.org/#url-parsing), surrounding whitespace is removed, the scheme may be in
    capitals or, before `//host`, missing, and characters are percent-encoded where necessary. Characters that
    PostgreSQL cannot store are left out of a data URL.
    """
    text = text.strip(_EDGES)
    if data_url(text) is not None:
        return _NOT_STORABLE.sub("", text)
    if len(text) > MAX_URL_CHARS:
        return None
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    found = _ADDRESS.fullmatch(rest)
    if (
        found is None
        or _is_prose(text)
        or not found[1].isprintable()
        or " " in found[1]
        or (not scheme and "." not in found[1])
    ):
        return None
    url = f"{scheme[1].lower() if scheme else 'https'}://{found[1]}{_quoted(found[2])}"
    try:
        parts = urlsplit(url)
        fine = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return url if fine else None


def _is_prose(text: str) -> bool:
    """Whether the text is a sentence that begins with a link, and not a link that contains spaces."""
    first, *others = text.split()
    if any(_SCHEME.match(word) for word in others):
        return True
    return bool(others) and family_of_name(first) is not None and family_of_name(text) is None


def _quoted(rest: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", rest), safe=_KEPT, errors="replace")


def links_within(text: str) -> list[str]:
    """All links in a text, such as an HTML page or a sentence."""
    found = (each[0].rstrip(".,;:!?") for each in _WITHIN.finditer(text[:MAX_TEXT_CHARS]))
    return [link for each in found if (link := link_in(each)) is not None]


def bare_data(text: str) -> str | None:
    """A data URL for a media file in plain base64; None if the text is not one."""
    text = text.strip(_EDGES)
    if len(text) < MIN_BASE64_CHARS or not _BASE64.fullmatch(text):
        return None
    start = text[:8192].replace("-", "+").replace("_", "/").rstrip("=")
    try:
        head = base64.b64decode(start[: len(start) // 4 * 4])
    except binascii.Error:
        return None
    head = head[after_tags(lambda at, size: head[at : at + size]) :]
    kind = kind_by_signature(head)
    found = find_frames(head) if kind is None else None
    if found is not None and found[0] == 0:
        kind = found[1]
    return None if kind is None else f"data:{kind.content_type};base64,{text}"


def family_of_type(content_type: str) -> str | None:
    """The media family of a media type: `audio`, `image`, `video` or `other`; None if unknown."""
    family = content_type.strip().lower().partition("/")[0]
    if family in ("audio", "image", "video"):
        return family
    return "other" if family == "text" else None


def family_of_name(name: str) -> str | None:
    """The media family by the extension of a file name; None if unknown."""
    found = _ENDING.search(unquote(name).lower().rstrip("/"))
    return _FAMILIES.get(found[1]) if found else None


def family_of_link(link: str) -> str | None:
    """The media family of a link: by the type in a data URL, else by the extension in its path or query."""
    if (data := data_url(link)) is not None:
        return family_of_type(data.content_type or "")
    parts = urlsplit(link)
    named = _ENDING_IN_QUERY.findall(unquote(parts.query).lower())
    return family_of_name(parts.path) or next((_FAMILIES[each] for each in reversed(named) if each in _FAMILIES), None)
