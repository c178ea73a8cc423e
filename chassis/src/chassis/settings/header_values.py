"""Settings that end in an HTTP header or a URL: what is pasted beside a key is taken off, what is inside is named."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Final

# Letters, marks and symbols that show nothing, which Unicode's categories do not tell.
_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {chr(n) for n in range(0xFE00, 0xFE10)}
_UNSEEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_CONTROLS: Final = {0x00: "NULL", 0x08: "BACKSPACE", 0x09: "TAB", 0x0A: "LINE FEED", 0x0D: "CARRIAGE RETURN",
                    0x1B: "ESCAPE", 0x7F: "DELETE", 0x85: "NEXT LINE"}  # fmt: skip
"""Unicode gives control characters no names of their own."""


def stripped(value: str) -> str:
    """The value without white space and invisible characters at its ends: blanks, line breaks, BOM, zero width."""
    start, end = 0, len(value)
    while start < end and _is_unseen(value[start]):
        start += 1
    while end > start and _is_unseen(value[end - 1]):
        end -= 1
    return value[start:end]


def header_fault(value: str) -> str | None:
    """Why the value cannot be sent in an HTTP header or a URL, without quoting it; None: it can.

    Keys and tokens are visible ASCII throughout. https://www.rfc-editor.org/rfc/rfc9110#section-5.5
    """
    if value[:1] in {"'", '"'} and value[-1:] == value[:1]:
        return "is in quotes, which are part of the value here: remove them"
    return _first_fault(value, _is_visible_ascii)


def text_fault(value: str) -> str | None:
    """The same for a secret that is signed with rather than sent: blanks within are fine."""
    return _first_fault(value, lambda char: char == " " or _is_visible_ascii(char))


def named(char: str) -> str:
    """A character as people look it up: its code point and its name."""
    name = _CONTROLS.get(ord(char)) or unicodedata.name(char, "a character without a name")
    return f"U+{ord(char):04X} {name}"


def _first_fault(value: str, is_fine: Callable[[str], bool]) -> str | None:
    for position, char in enumerate(value, start=1):
        if not is_fine(char):
            return f"has {named(char)} as character {position} of {len(value)}: copy it again, without that"
    return None


def _is_visible_ascii(char: str) -> bool:
    return "!" <= char <= "~"


def _is_unseen(char: str) -> bool:
    return char in _UNSEEN or unicodedata.category(char) in _UNSEEN_CATEGORIES
