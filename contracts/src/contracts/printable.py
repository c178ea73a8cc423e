"""Text of unknown origin made safe to print: what steers a terminal or reorders text becomes visible. Pure."""

from __future__ import annotations

import re
from typing import Final

# C0 but tab and line feed, DEL, C1; the marks, embeddings, overrides and isolates of bidirectional text
# (https://www.unicode.org/reports/tr9/); line and paragraph separators; format characters that are deprecated; half a
# surrogate pair, which no terminal's encoding can write.
_HARMFUL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with every character that a terminal would obey written as JSON writes it, such as `\u001b`.

    Tabs and line feeds stay: what prints lines knows what to do with them. JSON stays JSON, with the same meaning.
    """
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str) -> str:
    """The same on one line: its lines with semicolons between them, and blanks for tabs."""
    return printable("; ".join(line.strip() for line in text.split("\n") if line.strip()).replace("\t", " "))
