"""The delay before the next request that a response demands, in a header, a JSON field or its text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydantic import JsonValue

from adapter_kit.http.answer import Answer, http_date
from adapter_kit.http.error_rules import texts_in

MAX_S: Final = 86_400.0
"""Upper bound of the delay, in seconds: one day."""
MAX_CHARS: Final = 2_000
MAX_DEPTH: Final = 4

_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,6})?")
_FIELD: Final = re.compile(r"retry[_-]?after(?:[_-]?(?P<unit>ms|milliseconds|s|sec|seconds))?", re.IGNORECASE)
_NUMBER: Final = r"(\d{1,6}(?:\.\d{1,6})?|(?:an?|one)(?=\s))"
_UNIT: Final = (
    r"(m(?:illi)?s(?:ecs?|econds?)?|s(?:ecs?|econds?)?|m(?:ins?|inutes?)?|h(?:rs?|ours?)?|d(?:ays?)?)(?![a-z])"
)
_TIME_PARTS: Final = re.compile(rf"{_NUMBER}\s*{_UNIT}", re.IGNORECASE)
_TIMES: Final = rf"(?P<time>\b{_NUMBER}\s*+{_UNIT}(?:\s*+(?:(?:,|and)\s*+)?{_NUMBER}\s*+{_UNIT}){{0,3}})"
_IN_WORDS: Final = tuple(
    re.compile(rf"{before}{_TIMES}", re.IGNORECASE)
    for before in (
        r"\b(?:resets?|retry(?:ing)?|try|again|wait|available|come back|cool(?:ing)?[ -]?down)\b[^.\d]{0,40}?",
        r"(?<!requests )\bin (?:about |around |approximately )?~?",
    )
)
_IN_SECONDS: Final = re.compile(r"\bretry[ -]?after:? (\d{1,6})(?!\.?\d|\s*[a-z])", re.IGNORECASE)
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def retry_after_s(answer: Answer) -> float | None:
    """Seconds to wait before the next request, at most one day; None if the response does not state it.

    Sources, in this order: the header `Retry-After`, in seconds or as a date; a field of the JSON body, such as
    `retry_after`; the text, such as "resets in ~1m30s", "try again in 2 minutes" or "retry after 90 seconds".
    """
    found = _by_header(answer)
    if found is None:
        found = next(_by_field(answer.json(), 0), None)
    if found is None:
        found = _by_words("\n".join(texts_in(answer.document())) or answer.text)
    return None if found is None else min(found, MAX_S)


def _by_header(answer: Answer) -> float | None:
    header = answer.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(header):
        return float(header)
    until, now = http_date(header), answer.date
    return max(0.0, (until - now).total_seconds()) if until and now else None


def _by_field(said: JsonValue, depth: int) -> Iterator[float]:
    if depth >= MAX_DEPTH or not isinstance(said, dict | list):
        return
    for name, value in said.items() if isinstance(said, dict) else (("", item) for item in said):
        field = _FIELD.fullmatch(name)
        if field is None:
            yield from _by_field(value, depth + 1)
        elif (number := _number(value)) is not None:
            yield number * (0.001 if (field["unit"] or "").lower().startswith("m") else 1.0)
        elif isinstance(value, str) and _TIME_PARTS.match(value.strip()) is not None:
            yield _seconds(value)


def _number(value: JsonValue) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    return float(text) if _SECONDS.fullmatch(text) else None


def _by_words(text: str) -> float | None:
    text = text[:MAX_CHARS]
    found = next((found for each in _IN_WORDS if (found := each.search(text)) is not None), None)
    if found is not None:
        return _seconds(found["time"])
    plain = _IN_SECONDS.search(text)
    return None if plain is None else float(plain[1])


def _seconds(time: str) -> float:
    return sum(_amount(number) * _unit(unit.lower()) for number, unit in _TIME_PARTS.findall(time))


def _amount(number: str) -> float:
    return float(number) if number[0].isdigit() else 1.0


def _unit(name: str) -> float:
    return 0.001 if name.startswith(("ms", "milli")) else _UNITS[name[0]]
