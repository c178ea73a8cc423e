"""The alert rules in short time: every duration divided by one factor. Pure."""

from __future__ import annotations

import re
from typing import Final

FACTOR: Final = 15
EVERY_S: Final = 2
"""Seconds between two scrapes, and between two evaluations."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LEAST_RANGE_S: Final = 8
"""A range needs several scrapes."""


def shortened(rules: str, factor: int = FACTOR) -> str:
    """The text of a file of rules with shorter `for`, ranges, offsets and thresholds of ages.

    Thresholds of counts, shares and differences of clocks stay.
    """
    text = re.sub(r"(?m)^( *for: )(\d+)([smhd])$", lambda at: f"{at[1]}{_short(at[2], at[3], factor, 1)}s", rules)
    text = re.sub(r"\[(\d+)([smhd])\]", lambda at: f"[{_short(at[1], at[2], factor, _LEAST_RANGE_S)}s]", text)
    text = re.sub(
        r"\boffset (\d+)([smhd])\b", lambda at: f"offset {_short(at[1], at[2], factor, _LEAST_RANGE_S)}s", text
    )
    return re.sub(r"(_oldest_seconds\) > )(\d+)", lambda at: f"{at[1]}{_short(at[2], 's', factor, 1)}", text)


def _short(number: str, unit: str, factor: int, least_s: int) -> int:
    return max(least_s, round(int(number) * _UNITS[unit] / factor))
