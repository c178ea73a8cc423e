"""Limits on the requests of one kind that are served at a time, which leave the other connections to the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

SHARE: Final = 4
"""One in this many of the listener's connections may be held by requests of one kind that take long: those that wait
for a job, and those that read a file from the artifact store."""


@dataclass
class Places:
    """The limit on the requests of one kind, and their current number."""

    most: int
    now: int = 0

    @contextmanager
    def one_more(self) -> Iterator[bool]:
        """Whether another request is admitted; if so, it is counted until the block ends."""
        admitted = self.now < self.most
        self.now += admitted
        try:
            yield admitted
        finally:
            self.now -= admitted
