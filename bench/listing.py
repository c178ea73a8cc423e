"""Replicate's list of predictions: newest first, a hundred on a page."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import parse_qs, urlencode

PAGE: Final = 100


def page(created: Sequence[tuple[float, str]], query: str) -> tuple[list[str], str | None]:
    """The predictions on a page, and the query of the next page; None for the last.

    `created` are the Unix times and ids of all predictions, oldest first.
    """
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    first = bisect_left(created, (_time(given, "created_after", 0.0), ""))
    last = bisect_left(created, (_time(given, "created_before", math.inf), "")) - int(given.get("cursor", 0))
    ids = [name for _, name in reversed(created[max(first, last - PAGE) : max(first, last)])]
    more = last - PAGE > first
    return ids, urlencode(given | {"cursor": str(int(given.get("cursor", 0)) + PAGE)}) if more else None


def _time(given: dict[str, str], name: str, otherwise: float) -> float:
    return datetime.fromisoformat(given[name]).timestamp() if name in given else otherwise
