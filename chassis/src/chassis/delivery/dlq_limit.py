"""The dead-letter limit: keeps a service that is itself at fault from moving a whole topic into the dead letters.

Only messages that the handler was given count. What cannot be decoded says nothing about this service. Pure: the caller
says what time it is, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

EXCEEDED_LIMIT_S = 600.0


class DlqLimitExceeded(Exception):
    """The handler failed on most of the last messages."""


@dataclass(slots=True)
class DlqLimit:
    """Exceeded when the handler failed on more than a share of the last messages; then one message at a time is probed.

    A process that starts has handled nothing yet, so its first few messages decide: a service that fails on everything
    moves `least` messages to the dead letters at each start, and no more.
    """

    window: int = 200
    """How many of the last messages are looked at."""
    least: int = 10
    """How many have to be known before anything is concluded."""
    share: float = 0.5
    recovered: int = 100
    """How many messages in a row within the limit end the growth of the pauses."""
    first_pause_s: float = 5.0
    longest_pause_s: float = 300.0

    since: float | None = None
    """When the limit was exceeded, if no probe was handled since."""
    failed_probes: int = 0
    """How many probes have failed since."""
    _next_probe_at: float = 0.0
    _grown: int = 0
    _last: deque[bool] = field(default_factory=deque)
    _calm: int = 0

    def note(self, failed: Iterable[bool]) -> None:
        """Count messages in their order, True for each that failed. Raises DlqLimitExceeded once too many did."""
        before = len(self._last)
        self._last.extend(failed)
        self._calm += len(self._last) - before
        while len(self._last) > self.window:
            self._last.popleft()
        if len(self._last) >= self.least and sum(self._last) > self.share * len(self._last):
            raise DlqLimitExceeded
        if self._calm >= self.recovered:
            self._grown = 0

    def pause(self, now: float, jitter: float) -> float:
        """Pause consuming; returns for how many seconds: twice as many each time, up to the longest pause.

        `jitter` is a factor around 1, so that replicas don't probe all at once.
        """
        if self.since is None:
            self.since = now
            self.failed_probes = 0
        else:
            self.failed_probes += 1
        pause_s = jitter * min(self.first_pause_s * 2.0**self._grown, self.longest_pause_s)
        self._next_probe_at = now + pause_s
        self._grown = min(self._grown + 1, 64)
        self._last.clear()
        self._calm = 0
        return pause_s

    def wait_s(self, now: float) -> float:
        """How many seconds are left until the next message may be taken; 0 if it may be taken now."""
        return 0.0 if self.since is None else max(0.0, self._next_probe_at - now)

    def resume(self) -> None:
        """The probe was handled: take messages as usual. Exceeded again soon, the pauses go on growing."""
        self.since = None

    def problem(self, now: float, last_error: str | None) -> str | None:
        """Why the process is not ready, in words; None while the limit is not exceeded."""
        if self.since is None:
            return None
        return (
            f"the handler failed on most of the last messages ({last_error}); consuming has paused for "
            f"{now - self.since:.0f} s, and tries one message in {self.wait_s(now):.0f} s"
        )

    def failure(self, now: float, last_error: str | None) -> str | None:
        """Why the process should end, in words: probes have failed for `EXCEEDED_LIMIT_S` seconds."""
        # Without a message to probe nothing is known, and a restart would change nothing.
        if self.since is None or not self.failed_probes or now - self.since <= EXCEEDED_LIMIT_S:
            return None
        return f"the handler has failed on every message for over {EXCEEDED_LIMIT_S:.0f} s ({last_error})"
