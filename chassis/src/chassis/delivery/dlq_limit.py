"""The dead-letter limit: keeps a faulty service from moving a whole topic to the dead-letter topic.

Only messages passed to the handler count; a message that cannot be decoded is no sign of a fault in this service. Pure:
the caller passes the time, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

EXCEEDED_LIMIT_S = 600.0


class DlqLimitExceeded(Exception):
    """The handler failed on more than the allowed share of the last messages."""


@dataclass(slots=True)
class DlqLimit:
    """Exceeded when more than a share of the last messages failed; then one message at a time is handled, as a probe.

    A new process has handled nothing yet, so its first messages decide: a service that fails on every message moves
    `least` messages to the dead letters at each start, and no more.
    """

    window: int = 200
    """The number of most recent messages that are evaluated."""
    least: int = 10
    """The minimum number of messages before the limit can be exceeded."""
    share: float = 0.5
    recovered: int = 100
    """After this many messages in a row within the limit, pauses start again at `first_pause_s`."""
    first_pause_s: float = 5.0
    longest_pause_s: float = 300.0

    since: float | None = None
    """When the limit was exceeded (monotonic seconds); None once a probe has succeeded."""
    failed_probes: int = 0
    """The number of failed probes since then."""
    _next_probe_at: float = 0.0
    _grown: int = 0
    _last: deque[bool] = field(default_factory=deque)
    _calm: int = 0

    def note(self, failed: Iterable[bool]) -> None:
        """Record results in order, True for a failure. Raises DlqLimitExceeded once too many failed."""
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
        """Pause consuming; returns the pause in seconds, which doubles each time up to `longest_pause_s`.

        `jitter` is a factor around 1, so that replicas do not send their probes at the same time.
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
        """Seconds until the next message may be fetched; 0 if it may be fetched now."""
        return 0.0 if self.since is None else max(0.0, self._next_probe_at - now)

    def resume(self) -> None:
        """A probe succeeded: consume normally. If the limit is exceeded again soon, the pauses continue to grow."""
        self.since = None

    def problem(self, now: float, last_error: str | None) -> str | None:
        """Why the process is not ready, as text; None while the limit is not exceeded."""
        if self.since is None:
            return None
        return (
            f"the handler failed on most of the last messages ({last_error}); consuming has paused for "
            f"{now - self.since:.0f} s, and tries one message in {self.wait_s(now):.0f} s"
        )

    def failure(self, now: float, last_error: str | None) -> str | None:
        """Why the process should exit, as text: probes have failed for `EXCEEDED_LIMIT_S` seconds; else None."""
        # Without a message to probe the state is unknown, and a restart would change nothing.
        if self.since is None or not self.failed_probes or now - self.since <= EXCEEDED_LIMIT_S:
            return None
        return f"the handler has failed on every message for over {EXCEEDED_LIMIT_S:.0f} s ({last_error})"
