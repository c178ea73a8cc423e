"""Makes providers' texts safe to store and show: bounded, without secrets, markup and control characters. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from html.parser import HTMLParser
from typing import Final

from contracts.callback_urls import without_mac

MAX_WORDS: Final = 2000
MAX_PAGE_CHARS: Final = 20_000
"""How many characters of an HTML page are searched for text."""


def sanitize(text: str) -> str:
    """The text safe to store and show: at most `MAX_WORDS` characters, without NUL and lone surrogates.

    Signatures of callback URLs, which providers echo, are removed. An HTML page, as proxies send it, is reduced to the
    text that a browser shows.
    """
    shown = _shown_of(text) if _PAGE.search(text, 0, MAX_WORDS) else text
    return without_mac(shown).replace("\x00", "").encode("utf-8", "replace").decode().strip()[:MAX_WORDS]


def raw_text(text: str) -> str:
    """A provider's response as it is, without signatures of callback URLs, control characters and lone surrogates."""
    plain = _CONTROLS.sub("", without_mac(text[: 4 * MAX_WORDS]))
    return plain.encode("utf-8", "replace").decode()[:MAX_WORDS]


_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class _Shown(HTMLParser):
    """Collects the visible text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in _HIDDEN

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN

    def handle_data(self, data: str) -> None:
        if self._hidden <= 0:
            self.texts.append(data)


def _shown_of(page: str) -> str:
    reader = _Shown()
    # The parser raises AssertionError for a marked section that HTML does not have; the texts before it are kept.
    with suppress(AssertionError):
        reader.feed(page[:MAX_PAGE_CHARS])
    return " ".join(" ".join(reader.texts).split()) or "a page without words"


_PAGE: Final = re.compile(r"<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_HIDDEN: Final = frozenset({"script", "style"})
