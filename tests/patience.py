"""How tests wait: for a condition, until a deadline that a slow machine moves.

`SEGUE_TEST_PATIENCE` is the factor; where it is not set, the run measures at its start how busy the machine is.
A deadline that is never reached costs nothing, so those here are wide: they end what hangs, and measure nothing.
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
"""How long a condition may take on a quiet machine before it counts as never."""
_MOST: Final = 5.0
_SAMPLE_S: Final = 0.05


def patience() -> float:
    """The factor of this run, 1 where nothing is set.

    Raises ValueError where the setting is no number from 0.1 to 1000.
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
    """What takes up to so many seconds on a quiet machine may take this long here."""
    return seconds * patience()


def measured() -> float:
    """How much longer than on a quiet machine the same work takes here and now, from 1 to 5.

    Not more: some limits are waited out, and all the others are wide.
    """
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    began, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < _SAMPLE_S:
        pass
    # The load average lags a minute behind the machine; this does not.
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
    """The first true thing that the condition returns, asked every `every_s` seconds.

    After `patient(within_s)` seconds it fails, with `what` was waited for, and what `tell` says or was returned last.
    """
    __tracebackhide__ = True
    limit = patient(within_s)
    last: Any = "nothing"
    try:
        async with asyncio.timeout(limit) as scope:
            while not (last := await condition()):  # noqa: ASYNC110 - it may lie in other processes
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
    """The same for what runs in no event loop."""
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
