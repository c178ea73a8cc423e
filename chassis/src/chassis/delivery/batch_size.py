"""Batch size: how many messages the next poll fetches. It shrinks after a slow batch and grows as batches succeed.

A database under load, or one locked row, makes a batch exceed its time limit; a retry at the same size would exceed it
again. If a single message is too slow, its partition is suspended for a while so that the other partitions go on. Pure:
the caller passes the time, in seconds of a monotonic clock.
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
    """The size of the next poll, and the partitions that are suspended."""

    most: int = 1000
    first_pause_s: float = 5.0
    longest_pause_s: float = 60.0
    size: int = field(init=False)
    _cap: int = field(init=False)
    """The largest size known to finish in time. It is raised to `most` after `_calm_wanted` successful batches in a
    row.
    """
    _calm_wanted: int = _CALM
    _calm: int = 0
    _aside: dict[TopicPartition, _Aside] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size = self._cap = self.most

    def too_slow(self, count: int) -> None:
        """A batch of `count` messages exceeded its time limit: reduce the size, and the cap for the next batches."""
        if count > 1:
            self._cap = min(self.size, count) * 3 // 4
        self.size = max(1, min(self.size, count) // _FEWER)
        if self._calm:
            self._calm_wanted = min(2 * self._calm_wanted, _MOST_CALM)
        self._calm = 0

    def leave_aside(self, place: TopicPartition, now: float) -> None:
        """One message of a partition took too long: suspend the partition, twice as long each time."""
        before = self._aside.get(place)
        pause_s = self.first_pause_s if before is None else min(before.pause_s * 2, self.longest_pause_s)
        self._aside[place] = _Aside(now + pause_s, pause_s)

    def done(self, places: Iterable[TopicPartition]) -> None:
        """A batch was handled in time: increase the size. If a suspended partition succeeded, retry the others."""
        self._calm += 1
        if self._calm >= self._calm_wanted:
            self._cap = self.most
        self.size = min(self.size * _MORE, self._cap)
        if self.size == self.most:
            self._calm_wanted = _CALM
        for place in self._aside.keys() & set(places):
            del self._aside[place]
            # The cause of the delay may be shared: each suspended partition is retried at once.
            for aside in self._aside.values():
                aside.until = 0.0

    def turn(self, assigned: AbstractSet[TopicPartition], now: float) -> tuple[int, AbstractSet[TopicPartition]]:
        """The number of messages to fetch now, and the partitions to fetch none from.

        A partition whose suspension has ended is polled alone, for one message.
        """
        for lost in self._aside.keys() - assigned:
            del self._aside[lost]
        due = min(self._aside, key=lambda place: self._aside[place].until, default=None)
        if due is not None and self._aside[due].until <= now:
            self._aside[due].until = now + self._aside[due].pause_s  # If it is empty, the others are next.
            return 1, assigned - {due}
        return self.size, self._aside.keys()
