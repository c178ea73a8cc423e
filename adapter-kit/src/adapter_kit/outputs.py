"""Where a model's answer holds its files: the shapes that the providers' models answer in, brought to one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pydantic import JsonValue

from adapter_kit.outcomes import Output
from contracts.generation import Modality

MAX_OUTPUTS: Final = 100
MAX_URL_CHARS: Final = 4000

_KEYS: Final[Mapping[Modality, tuple[str, ...]]] = {
    "music": ("audio", "audio_file", "audio_url", "video", "video_url"),
    "image": ("images", "image", "image_url", "video", "video_url"),
}


def outputs_of(answer: JsonValue, modality: Modality) -> tuple[Output, ...]:
    """The files in a model's answer, in order; none where it is not an answer of a known shape or one is unusable.

    Known are a URL, an object with a `url`, a list of either, and an object that has one of these under a key.
    """
    if isinstance(answer, dict) and "url" not in answer:
        answer = next((answer[key] for key in _KEYS[modality] if answer.get(key)), None)
    found = [_output(item) for item in (answer if isinstance(answer, list) else [answer])]
    usable = [output for output in found if output is not None]
    return tuple(usable) if len(usable) == len(found) <= MAX_OUTPUTS else ()


def _output(item: JsonValue) -> Output | None:
    url = item.get("url") if isinstance(item, dict) else item
    if not isinstance(url, str) or not _is_link(url):
        return None
    kind = item.get("content_type") if isinstance(item, dict) else None
    return Output(url, kind if isinstance(kind, str) and kind.isprintable() and 0 < len(kind) <= 200 else None)


def _is_link(url: str) -> bool:
    if len(url) > MAX_URL_CHARS or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname)
