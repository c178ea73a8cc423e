"""Which processes were killed, stopped or ended, and when: what the evidence of a run is held against."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.topics import ServiceName


@dataclass(slots=True)
class Disturbance:
    """A process that was signalled, started with a crash point, or ended by itself; Unix times in seconds."""

    how: str
    """The signal, or what else it was, for example `SIGKILL`."""
    replica: str
    service: ServiceName
    began: float
    ended: float | None = None
    """When its process was started again, or went on; None: not yet."""


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """A process that ended although nobody stopped it, and nobody had told it to end itself."""

    at: float
    """Unix time in seconds."""
    replica: str
    service: str
    code: int
    """Its exit code, negative for a signal."""


class Disturbances:
    """All disturbances of a fleet, in order."""

    def __init__(self) -> None:
        self._all: list[Disturbance] = []

    def begin(self, how: str, replica: str, service: ServiceName) -> None:
        """Note a disturbance; it ends the one before it of the same replica."""
        self.end(replica)
        self._all.append(Disturbance(how, replica, service, time.time()))

    def end(self, replica: str) -> None:
        """Note that a replica works again."""
        for one in self._all:
            if one.replica == replica and one.ended is None:
                one.ended = time.time()

    def since(self, began: float) -> Sequence[Disturbance]:
        """The disturbances that have begun since a Unix time."""
        return [one for one in self._all if one.began >= began]
