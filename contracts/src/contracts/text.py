"""Text that others wrote: what of it must not reach a terminal or a page as it is, and what of it says nothing. Pure.

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
# Two characters that join others into one, in emoji and in many scripts. Beside ASCII they join nothing.
_JOINED: Final = "[\u0300-\u1fff\u2070-\U0010ffff]"
_STRAY_JOINER: Final = f"(?<!{_JOINED})[\u200c\u200d]|[\u200c\u200d](?!{_JOINED})"

UNPRINTABLE: Final = re.compile(
    f"[{_CONTROL_BUT_LINES}{_FORMAT}\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\ud800-\udfff]|{_STRAY_JOINER}"
)
"""What moves a cursor, changes a terminal, reorders a line, or hides; not line feeds and tabs."""

# C0 but tab and line feed, DEL, C1; the marks, embeddings, overrides and isolates of bidirectional text
# (https://www.unicode.org/reports/tr9/); line and paragraph separators; format characters that are deprecated; half a
# surrogate pair, which no terminal's encoding can write.
_OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")

_INVISIBLE: Final = re.compile(
    "[\\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]*"
)
# What shows nothing by itself and says nothing about its neighbours. NUL is left in: it is refused by name.
_EDGES: Final = "\xad\u180e\u200b\u200e\u200f\u2060\u2800\u3164\ufeff\uffa0" + "".join(
    char for char in map(chr, range(1, 0x3001)) if char.isspace() or char < " " or "\x7f" <= char <= "\x9f"
)
# Joiners and variation selectors belong to the character before them: at the end they may be wanted.
_JOINING: Final = "\u200c\u200d" + "".join(map(chr, range(0xFE00, 0xFE10)))


def escaped(text: str) -> str:
    r"""The text for a terminal or a log: each character that a terminal would obey is as JSON writes it: `\u001b`.

    Tabs and line feeds stay: what prints lines knows what to do with them. JSON stays JSON, with the same meaning.
    """
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def escaped_line(text: str) -> str:
    """The same on one line: its lines with semicolons between them, and blanks for tabs."""
    return escaped("; ".join(line.strip() for line in text.split("\n") if line.strip()).replace("\t", " "))


def replaced(text: str) -> str:
    """The text for an answer of the API: each control, format-override and surrogate character is U+FFFD.

    Line feeds and tabs stay, and so do joiners between the characters that they join. A carriage return before a line
    feed is left out.
    """
    return UNPRINTABLE.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def replaced_line(text: str) -> str:
    """The same on one line: line feeds and tabs are U+FFFD too."""
    return replaced(text).replace("\n", REPLACEMENT).replace("\t", REPLACEMENT)


def is_blank(text: str) -> bool:
    """Whether nothing of the text can be seen: it is empty, or of blanks, control and invisible characters alone."""
    return _INVISIBLE.fullmatch(text) is not None


def stripped(text: str) -> str:
    """The text without the blanks and invisible characters around it."""
    return text.rstrip(_EDGES).lstrip(_EDGES + _JOINING)


def error_in_words(error: BaseException) -> str:
    """The name of an error's type and its text, if it has one; of a group of errors, those of the first error in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
