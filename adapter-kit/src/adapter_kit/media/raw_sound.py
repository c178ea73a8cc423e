"""Detection of raw audio, which has no header, by its media type, file name or the request. Pure.

Names: the media types of RFC 2586, 3190 and 4856, ffmpeg's raw formats, and the `format` of the models that offer raw
audio (https://fal.ai/models/fal-ai/minimax-music/api, https://elevenlabs.io/docs/api-reference/music/compose).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from pydantic import JsonValue

MAX_DEPTH: Final = 5

_TYPE: Final = re.compile(r"audio/(x-)?(raw|l?pcm|l8|l16|l20|l24|basic|(mu|u|a)-?law|pcmu|pcma|g722|g726.*)")
_NAME: Final = re.compile(
    r"(raw|l?pcm|linear|(mu|u|a)-?law|g711|l8|l16|l20|l24|[su](8|16|24|32)([lb]e)?|f(32|64)([lb]e)?)\d*"
    r"([-_ ][a-z0-9]+)*"
)
_KEY: Final = re.compile(r"(.*_)?(format|codec|encoding|container|extension|file_type|content_type|mime_type)")
_WITH_A_HEADER: Final = re.compile(r"(audio/)?(x-)?(wave?|aiff?|flac|mp3|mpeg|ogg|opus|m4a|mp4|aac|webm)")
_EXTENSION: Final = re.compile(r".*\.(raw|pcm|ulaw|alaw|s16le|s16|l16|f32le)", re.IGNORECASE | re.DOTALL)


def is_raw_type(content_type: str | None) -> bool:
    """Whether a media type is one of raw audio."""
    return _TYPE.fullmatch(_plain(content_type or "")) is not None


def is_named_raw(url: str) -> bool:
    """Whether the file name in a URL has an extension of raw audio."""
    try:
        return _EXTENSION.fullmatch(urlsplit(url[:4096]).path) is not None
    except ValueError:
        return False


def asks_for_raw(arguments: Mapping[str, JsonValue]) -> bool:
    """Whether the arguments of a model request raw audio."""
    wanted = [_plain(value) for key, value in _texts(arguments) if _KEY.fullmatch(key.lower())]
    raw = any(_NAME.fullmatch(each) or _TYPE.fullmatch(each) for each in wanted)
    return raw and not any(_WITH_A_HEADER.fullmatch(each) for each in wanted)


def _texts(value: Mapping[str, JsonValue], depth: int = 0) -> Iterator[tuple[str, str]]:
    for key, each in value.items():
        if isinstance(each, str):
            yield key, each
        elif isinstance(each, dict) and depth < MAX_DEPTH:
            yield from _texts(each, depth + 1)


def _plain(name: str) -> str:
    return name[:200].partition(";")[0].strip().lower()
