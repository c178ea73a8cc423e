"""Quotes clients' values in error messages. Pure."""

from __future__ import annotations

from typing import Final

from contracts.text import replaced_line

MAX_VALUE_CHARS: Final = 100


def quoted(value: object) -> str:
    """The value as printable text on one line, cut to 100 characters."""
    if isinstance(value, int) and value.bit_length() > 1000:
        # Python raises ValueError for the digits of very large integers.
        return "an integer of over 300 digits"
    if isinstance(value, float):
        value = value + 0.0  # Makes -0.0 0.0.
    text = replaced_line((value if isinstance(value, str) else repr(value))[: MAX_VALUE_CHARS + 1])
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"
