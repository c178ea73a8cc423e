"""The parts of a JSON document as bytes: its tokens, and what is open while it is read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

UNITS: Final = re.compile(rb'(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+', re.DOTALL)
"""The content of a string, up to an incomplete escape at its end."""
LITERAL: Final = re.compile(rb'[^"{}\[\],:\s]+')
BLANKS: Final = re.compile(rb"\s+")
LONGEST_ESCAPE: Final = 6
_WHOLE_TEXT: Final = rb'"(?:[^"\\]++|\\.)*+"'
_NO_BRACKETS: Final = rb'(?:[^"{}\[\]]++|' + _WHOLE_TEXT + rb")*+"
_FLAT: Final = rb"\{" + _NO_BRACKETS + rb"\}|\[" + _NO_BRACKETS + rb"\]"
LEFT_OUT: Final = re.compile(rb'(?:[^"{}\[\]]++|' + _WHOLE_TEXT + rb"|" + _FLAT + rb")*+", re.DOTALL)
"""The longest prefix of an omitted part that has no nested brackets: strings, literals, flat lists and objects."""
_VALUE: Final = _WHOLE_TEXT + rb'|[^"{}\[\],:\s]++|' + _FLAT
ELEMENTS: Final = re.compile(rb"(?:(?:" + _VALUE + rb")\s*+,\s*+)++", re.DOTALL)
MEMBERS: Final = re.compile(rb"(?:" + _WHOLE_TEXT + rb"\s*+:\s*+(?:" + _VALUE + rb")\s*+,\s*+)++", re.DOTALL)
"""A run of consecutive small members or elements with the commas after them; there may be millions."""


def whole_characters(data: bytearray, start: int) -> int:
    """The length of the data without an incomplete UTF-8 character at its end."""
    for back in range(1, min(4, len(data) - start) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            size = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) if size <= back else len(data) - back
    return len(data)


@dataclass(slots=True)
class Container:
    """An object or a list that is still open."""

    closer: bytes
    limit: int
    """Once so many bytes have been kept in total, the rest of the container is omitted."""
    side: bool
    """It is not evaluated, such as logs."""
    parts: int = 0
    wants_key: bool = False
    key: bytes = b""
    pending: bytes = b""
    """The bytes that complete its last member if the document is closed early."""


@dataclass(slots=True)
class Text:
    """The string that is being read."""

    starts_at: int
    """The offset of its content in the kept bytes."""
    room: int
    """How many more of its bytes are kept."""
    is_key: bool
    skipped: bool
    room_for_file: bool = False
    """It may still prove to be a file, which has a larger limit."""
    cut: bool = False
    file: bool = False
    """It is a base64 file; its bytes count towards `FILE_BYTES`."""
