"""How long an attempt waits before it looks again, or tries again. Pure."""

from __future__ import annotations

from zlib import crc32


def poll_interval_s(age_s: float, *, backstop: bool = False) -> float:
    """Seconds between two checks of a run of this age: short at first, then a tenth of its age.

    As a `backstop` to callbacks that arrive: no more often than every 15 s, and no less often than every 30 s.
    """
    least, most = (15.0, 30.0) if backstop else (0.4, 5.0)
    return min(most, max(least, age_s / 10))


def next_look_s(age_s: float, start_left_s: float | None, *, backstop: bool) -> float:
    """Seconds to the next check of a run; `start_left_s` is what is left to one that is not known to have started."""
    usual_s = poll_interval_s(age_s)
    if not backstop:
        return usual_s
    wait_s = poll_interval_s(age_s, backstop=True)
    if start_left_s is not None:
        # Not every provider calls at the start, and a run that is thought to wait still is cancelled at its deadline.
        wait_s = min(wait_s, start_left_s / 2)
    return max(usual_s, wait_s)


def backoff_s(name: str, tries: int) -> float:
    """Seconds to wait after the given failure in a row: doubling from 1 to 30, jittered by up to a quarter.

    The jitter comes from the name, so that the same thing waits the same time and many do not wait together.
    """
    jitter = crc32(f"{name}:{tries}".encode()) / 2**32
    return min(30.0, 2.0 ** (tries - 1)) * (1 + jitter / 4)
