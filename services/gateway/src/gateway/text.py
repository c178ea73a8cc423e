"""Values that clients sent, as they are quoted in an error. Pure."""

from __future__ import annotations

from typing import Final

from contracts.text import replaced_line

MAX_VALUE_CHARS: Final = 100


def shown(value: object) -> str:
    """A value of the client's as it is told back: printable, on one line, and no longer than 100 characters."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return "an integer of over 300 digits"  # Python refuses to write out very long ones.
    if isinstance(value, float):
        value = value + 0.0  # -0.0 is 0.0.
    text = replaced_line((value if isinstance(value, str) else repr(value))[: MAX_VALUE_CHARS + 1])
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"
