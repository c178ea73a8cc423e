"""How tests wait: for a condition, until a deadline that a slow machine moves.

`SEGUE_TEST_PATIENCE` is the factor; if it is not set, the load of the machine is measured when the run starts.
Deadlines are wide: they end a test that hangs, and do not measure speed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

SETTING: Final = "SEGUE_TEST_PATIENCE"
WITHIN_S: Final = 60.0
"""Default seconds until a condition has to hold, on an idle machine."""
_MOST: Final = 5.0
_SAMPLE_S: Final = 0.05


def patience() -> float:
    """The factor of this run, 1 by default.

    Raises ValueError if the setting is not a number from 0.1 to 1000.
    """
    given = os.environ.get(SETTING) or "1"
    try:
        factor = float(given)
    except ValueError:
        factor = 0.0
    if not 0.1 <= factor <= 1000:
        raise ValueError(f"{SETTING} is a factor such as 1 or 5, not {given!r}")
    return factor


def patient(seconds: float) -> float:
    """The time limit, in seconds, for what takes up to `seconds` on an idle machine."""
    return seconds * patience()


def measured() -> float:
    """How many times longer than on an idle machine work takes at present, from 1 to 5.

    Some tests wait for a whole limit, so the factor stays small.
    """
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    began, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < _SAMPLE_S:
        pass
    # Needed because the load average lags by a minute.
    slowed = (time.monotonic() - began) / _SAMPLE_S
    return round(min(max(1.0, load, slowed), _MOST), 1)


async def eventually(
    condition: Callable[[], Awaitable[T]],
    within_s: float = WITHIN_S,
    what: object = None,
    *,
    every_s: float = 0.02,
    tell: Callable[[], object] | None = None,
) -> T:
    """The first true value of the condition, which is called every `every_s` seconds.

    Raises AssertionError after `patient(within_s)` seconds, with `what` and the value of `tell`, by default the last
    value of the condition.
    """
    __tracebackhide__ = True
    limit = patient(within_s)
    last: Any = "nothing"
    try:
        async with asyncio.timeout(limit) as scope:
            while not (last := await condition()):  # noqa: ASYNC110 - it may depend on other processes
                await asyncio.sleep(every_s)
            return last
    except TimeoutError:
        if not scope.expired():
            raise
    raise AssertionError(_failure(what or condition, limit, tell() if tell else repr(last)))


def eventually_sync(
    condition: Callable[[], T],
    within_s: float = WITHIN_S,
    what: object = None,
    *,
    every_s: float = 0.02,
    tell: Callable[[], object] | None = None,
) -> T:
    """As `eventually`, outside an event loop."""
    __tracebackhide__ = True
    limit = patient(within_s)
    deadline = time.monotonic() + limit
    while not (last := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_failure(what or condition, limit, tell() if tell else repr(last)))
        time.sleep(every_s)
    return last


def _failure(what: object, limit: float, seen: object) -> str:
    name = what.__qualname__.rpartition("<locals>.")[2] if callable(what) and hasattr(what, "__qualname__") else what
    return f"not within {limit:g} s: {name}; seen last: {seen}"
