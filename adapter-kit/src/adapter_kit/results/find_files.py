"""Search for all links in a model's result, whatever its structure. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import JsonValue

from adapter_kit.results.links import (
    MAX_TEXT_CHARS,
    bare_data,
    family_of_link,
    family_of_name,
    family_of_type,
    link_in,
    links_within,
)
from contracts.providers.registry import PROVIDERS

MAX_DEPTH: Final = 40
MAX_NODES: Final = 20_000
MAX_NESTED: Final = 3
"""Nesting limit of JSON texts within JSON."""

_SOUND: Final = """
    audio audios audio_file audio_files audio_url audio_urls audio_out audio_output output_audio generated_audio
    result_audio music music_url music_file song songs song_url song_file track tracks track_url sound sounds soundtrack
    mp3 mp3_url wav wav_url flac flac_url vocals instrumental stems mix full_mix
"""
_PICTURE: Final = """
    image images image_file image_files image_url image_urls image_out image_output output_image output_images
    generated_image generated_images picture pictures photo photos img imgs
"""
_FILM: Final = "video videos video_file video_files video_url video_urls output_video video_output"
KEYS: Final[Mapping[str, str]] = {
    **dict.fromkeys(_SOUND.split(), "audio"),
    **dict.fromkeys(_PICTURE.split(), "image"),
    **dict.fromkeys(_FILM.split(), "video"),
}
"""The media family of a value, by its key."""

_ECHO: Final = re.compile(
    r"(inputs?|references?|ref|prompt|requests?|arguments|args|kwargs|params|parameters|logs?|urls|metrics|webhooks?|callbacks?|next|previous)"
    r"|(input|reference|ref|source|init|initial|prompt|condition|conditioning|control|guide|original|uploaded|webhook"
    r"|callback|example)_.*"
    r"|(.*_)?(status|response|cancel|webhook|callback|poll|request|log|logs|docs|license|terms|model|schema)_(url|uri)"
    r"|(docs?|documentation|help|support|license|terms|homepage|schema|dashboard|web)"
)
"""Keys that repeat the input, or hold API URLs: never an output."""
_ASIDE: Final = re.compile(
    r"(^|_)(spectrogram|waveform|cover|thumbnails?|thumb|poster|artwork|icon|avatar|logo|preview|lyrics|subtitles?|captions?"
    r"|transcript|metadata|chart|plot|masks?|watermark)(_|$)"
)
"""Keys of secondary files."""
_LIKELY: Final = (
    (re.compile(r"audio|music|song|sound|voice|speech|mp3|wav|melody"), "audio"),
    (re.compile(r"image|picture|photo|img"), "image"),
    (re.compile(r"video|movie|film|mp4"), "video"),
)
_API_URLS: Final = "|".join(re.escape(url) for spec in PROVIDERS.values() for url in spec.api_urls)
_API_LINK: Final = re.compile(rf"/api/callbacks/[^/]+/[^/]+/|//({_API_URLS})\b")
"""Links to Segue's callbacks and to the providers' APIs: never an output, under any key."""
_API_URL_NAMES: Final = frozenset({"get", "cancel", "web", "stream", "status", "response"})
"""Names in a `urls` object of API URLs; any other `urls` may be outputs."""
_JOINED: Final = re.compile(r"(?<!\s)\s*+[,;|]\s*+(?=https?://)", re.IGNORECASE)
_TYPE_KEYS: Final = ("content_type", "mime_type", "mimetype", "mime", "media_type", "type")
_NAME_KEYS: Final = ("file_name", "filename", "name", "path")
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s.-]+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A link in a result, with what is needed to decide whether it is an output."""

    url: str
    content_type: str | None
    family: str | None
    """`audio`, `image`, `video` or `other`; None if unknown."""
    aside: bool = False
    """It is a secondary file, such as a cover or a waveform."""
    within: bool = False
    """It is part of a longer text."""
    group: int | None = None
    """The number of the list that contains it; None outside of lists."""


def plain_key(key: str) -> str:
    """The key in snake case."""
    return _WORD.sub("_", key).lower().strip("_$@")


def is_echo(key: str) -> bool:
    """Whether the value of a snake-case key repeats the input, or is an API URL."""
    return _ECHO.fullmatch(key) is not None


def is_aside(key: str) -> bool:
    """Whether the value of a snake-case key is a secondary file."""
    return _ASIDE.search(key) is not None


def links_in(result: JsonValue, *, echoes: bool = False) -> list[Candidate]:
    """The distinct links in a result, in order; with `echoes`, also those under keys that repeat the input."""
    found: dict[str, Candidate] = {}
    for candidate in _Walk(echoes).through(result, _Place(), 0, 0):
        if _API_LINK.search(candidate.url[:200]):
            continue
        known = found.get(candidate.url)
        if known is None or (known.within and not candidate.within):
            found[candidate.url] = candidate
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Place:
    """The position of a value in the result."""

    keys: tuple[str, ...] = ()
    about: Mapping[str, JsonValue] = field(default_factory=dict)
    """The innermost object that contains it."""
    group: int | None = None


class _Walk:
    def __init__(self, echoes: bool) -> None:
        self._left = MAX_NODES
        self._groups = 0
        self._echoes = echoes

    def through(self, value: JsonValue, place: _Place, depth: int, nested: int) -> Iterator[Candidate]:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            return
        if isinstance(value, dict):
            for key, inner in value.items():
                plain = plain_key(key)
                if key[:4].lower() == "http" and (link := link_in(key)) is not None:
                    yield _candidate(link, place.keys, {})
                if self._echoes or not is_echo(plain) or (plain == "urls" and not _has_api_urls(inner)):
                    there = replace(place, keys=(*place.keys, plain), about=value)
                    yield from self.through(inner, there, depth + 1, nested)
        elif isinstance(value, list):
            self._groups += 1
            there = replace(place, group=self._groups)
            for inner in value:
                yield from self.through(inner, there, depth + 1, nested)
        elif isinstance(value, str):
            yield from self._text(value, place, depth, nested)

    def _text(self, text: str, place: _Place, depth: int, nested: int) -> Iterator[Candidate]:
        if links := _joined(text):
            self._groups += 1
            for each in links:
                yield replace(_candidate(each, place.keys, place.about), group=place.group or self._groups)
        elif (link := link_in(text) or bare_data(text)) is not None:
            yield replace(_candidate(link, place.keys, place.about), group=place.group)
        elif nested < MAX_NESTED and (parsed := _parsed(text)) is not None:
            yield from self.through(parsed, place, depth + 1, nested + 1)
        else:
            for each in links_within(text):
                yield Candidate(each, None, family_of_link(each), any(map(is_aside, place.keys)), within=True)


def _has_api_urls(value: JsonValue) -> bool:
    return isinstance(value, dict) and not _API_URL_NAMES.isdisjoint(value)


def _joined(text: str) -> list[str]:
    """The links of a text that is a list of links, separated by `,`, `;` or `|`; otherwise empty."""
    parts = _JOINED.split(text) if len(text) <= MAX_TEXT_CHARS else []
    # A link that contains another one may contain a list of links, and must not be split.
    links = [link_in(part) for part in parts if part.count("://") == 1]
    return [link for link in links if link] if len(parts) > 1 and len(links) == len(parts) and all(links) else []


def _candidate(link: str, keys: tuple[str, ...], about: Mapping[str, JsonValue]) -> Candidate:
    declared = _declared(about)
    stated = (family_of_type(declared) if declared else None) or _family_of_names(about)
    by_link = family_of_link(link)
    content_type = declared if declared and "/" in declared else None
    for key in reversed(keys):
        if is_aside(key):
            return Candidate(link, content_type, stated or by_link, aside=True)
        if (known := KEYS.get(key)) is not None:
            # Declared type and extension together take precedence over the key.
            family = stated if stated is not None and stated == by_link else known
            return Candidate(link, content_type, family)
    likely = (family for key in reversed(keys) for mark, family in _LIKELY if mark.search(key))
    return Candidate(link, content_type, stated or by_link or next(likely, None))


def _declared(about: Mapping[str, JsonValue]) -> str | None:
    values = {plain_key(key): value for key, value in about.items() if isinstance(value, str)}
    found = (values[key] for key in _TYPE_KEYS if key in values)
    return next((each for each in found if each.isprintable() and 0 < len(each) <= 200), None)


def _family_of_names(about: Mapping[str, JsonValue]) -> str | None:
    values = {plain_key(key): value for key, value in about.items() if isinstance(value, str)}
    names = (values[key] for key in _NAME_KEYS if key in values)
    return next((family for name in names if (family := family_of_name(name[:500])) is not None), None)


def _parsed(text: str) -> JsonValue:
    """The object or list that the text is in JSON; None for any other text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value
