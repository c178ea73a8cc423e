"""How many messages are taken at a time: fewer where a batch was too slow, and more again as batches are handled.

A database under load, or one row that somebody has locked, makes a batch take longer than it may, and it would take as
long again. A message that is too slow on its own has its partition left aside for a while, so that the others go on.
Pure: the caller says what time it is, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from aiokafka import TopicPartition

_FEWER: Final = 4
_MORE: Final = 2
_CALM: Final = 20
_MOST_CALM: Final = 640


@dataclass(slots=True)
class _Aside:
    until: float
    pause_s: float


@dataclass(slots=True)
class BatchSize:
    """How many messages the next poll takes, and where."""

    most: int = 1000
    first_pause_s: float = 5.0
    longest_pause_s: float = 60.0
    size: int = field(init=False)
    _cap: int = field(init=False)
    """What is known to be done in time, more or less. It is gone beyond after so many batches in a row:"""
    _calm_wanted: int = _CALM
    _calm: int = 0
    _aside: dict[TopicPartition, _Aside] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size = self._cap = self.most

    def too_slow(self, count: int) -> None:
        """A batch of so many was not done in its time: take fewer, and stay below that for a while."""
        if count > 1:
            self._cap = min(self.size, count) * 3 // 4
        self.size = max(1, min(self.size, count) // _FEWER)
        if self._calm:
            self._calm_wanted = min(2 * self._calm_wanted, _MOST_CALM)
        self._calm = 0

    def leave_aside(self, place: TopicPartition, now: float) -> None:
        """One message of a partition took too long: the others go on without that, for longer each time."""
        before = self._aside.get(place)
        pause_s = self.first_pause_s if before is None else min(before.pause_s * 2, self.longest_pause_s)
        self._aside[place] = _Aside(now + pause_s, pause_s)

    def done(self, places: Iterable[TopicPartition]) -> None:
        """A batch was done in time: take more."""
        self._calm += 1
        if self._calm >= self._calm_wanted:
            self._cap = self.most
        self.size = min(self.size * _MORE, self._cap)
        if self.size == self.most:
            self._calm_wanted = _CALM
        for place in self._aside.keys() & set(places):
            del self._aside[place]
            # What held that one up may have held up the others: each is tried at once.
            for aside in self._aside.values():
                aside.until = 0.0

    def turn(self, assigned: AbstractSet[TopicPartition], now: float) -> tuple[int, AbstractSet[TopicPartition]]:
        """How many messages to take now, and the partitions to take none from.

        A partition that was left aside for long enough is tried alone, with one message.
        """
        for lost in self._aside.keys() - assigned:
            del self._aside[lost]
        due = min(self._aside, key=lambda place: self._aside[place].until, default=None)
        if due is not None and self._aside[due].until <= now:
            self._aside[due].until = now + self._aside[due].pause_s  # Where it has nothing, the others have their turn.
            return 1, assigned - {due}
        return self.size, self._aside.keys()
