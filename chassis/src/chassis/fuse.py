"""The fuse: stops a consumer that is itself wrong before it moves a whole topic into the dead letters."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


class Blown(Exception):
    """Most of the last messages went to dead letters."""


@dataclass(slots=True)
class Fuse:
    """Blows when most of the last messages went to dead letters: then the consumer is wrong, not the messages."""

    window: int = 200
    least: int = 100
    share: float = 0.5

    _last: deque[bool] = field(default_factory=deque)

    def note(self, dead: Iterable[bool]) -> None:
        """Count messages in their order, True for each that is dead. Raises Blown once too many of them are."""
        self._last.extend(dead)
        while len(self._last) > self.window:
            self._last.popleft()
        if len(self._last) >= self.least and sum(self._last) > self.share * len(self._last):
            raise Blown
