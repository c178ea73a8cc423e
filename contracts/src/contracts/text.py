"""Untrusted text: the characters that must not reach a terminal or a page, and those that are invisible. Pure.

The sets follow the Unicode Character Database: control (Cc) and format (Cf) characters, and
Default_Ignorable_Code_Point (https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point).
"""

from __future__ import annotations

import re
from typing import Final

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

# Format characters that have a glyph of their own (U+0600 to U+0605 and the like) are not among these.
_FORMAT: Final = "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_CONTROL_BUT_LINES: Final = "\x00-\x08\x0b-\x1f\x7f-\x9f"
# The zero-width joiner and non-joiner have a meaning between characters of many scripts and emoji, not next to ASCII.
_JOINED: Final = "[\u0300-\u1fff\u2070-\U0010ffff]"
_STRAY_JOINER: Final = f"(?<!{_JOINED})[\u200c\u200d]|[\u200c\u200d](?!{_JOINED})"

UNPRINTABLE: Final = re.compile(
    f"[{_CONTROL_BUT_LINES}{_FORMAT}\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\ud800-\udfff]|{_STRAY_JOINER}"
)
"""Characters that control a terminal, reorder text or are invisible; without line feed and tab."""

# C0 without tab and line feed, DEL, C1; the marks, embeddings, overrides and isolates of bidirectional text
# (https://www.unicode.org/reports/tr9/); line and paragraph separators; deprecated format characters; surrogates, which
# UTF-8 cannot encode.
_OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")

_INVISIBLE: Final = re.compile(
    "[\\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]*"
)
# Characters that are invisible and do not change the ones next to them. NUL is not one of these: it has an error of
# its own.
_EDGES: Final = "\xad\u180e\u200b\u200e\u200f\u2060\u2800\u3164\ufeff\uffa0" + "".join(
    char for char in map(chr, range(1, 0x3001)) if char.isspace() or char < " " or "\x7f" <= char <= "\x9f"
)
# Joiners and variation selectors apply to the character before them, so they are stripped at the start only.
_JOINING: Final = "\u200c\u200d" + "".join(map(chr, range(0xFE00, 0xFE10)))


def escaped(text: str) -> str:
    r"""The text for a terminal or a log: each character that controls a terminal is a JSON escape, such as `\u001b`.

    Tabs and line feeds are kept. JSON remains valid JSON with the same value.
    """
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def escaped_line(text: str) -> str:
    """Like `escaped`, on one line: lines are joined by semicolons, tabs become blanks."""
    return escaped("; ".join(line.strip() for line in text.split("\n") if line.strip()).replace("\t", " "))


def replaced(text: str) -> str:
    """The text for a response of the API: each control, format-override and surrogate character is U+FFFD.

    Line feeds and tabs are kept, and so are joiners between the characters that they join. CR LF becomes LF.
    """
    if text.isascii() and text.isprintable():
        return text
    return UNPRINTABLE.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def replaced_line(text: str) -> str:
    """Like `replaced`, on one line: line feeds and tabs are U+FFFD too."""
    return replaced(text).replace("\n", REPLACEMENT).replace("\t", REPLACEMENT)


def is_blank(text: str) -> bool:
    """Whether the text is empty, or consists of blanks, control and invisible characters only."""
    return _INVISIBLE.fullmatch(text) is not None


def stripped(text: str) -> str:
    """The text without leading and trailing blanks and invisible characters."""
    return text.rstrip(_EDGES).lstrip(_EDGES + _JOINING)


def error_in_words(error: BaseException) -> str:
    """The name of the error's type and its text, if it has one; for an exception group, those of its first error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
