"""The system before a fault, and what the fault has to leave as it was."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from aiokafka import TopicPartition

from chaos.cluster.fleet import Fleet
from chaos.rows.ambiguous import all_bound
from chaos.rows.base import GAPS, TWICE
from chaos.rows.probes import BillLog, count, ends, now
from contracts.topics import DEAD_LETTERS


@dataclass(frozen=True, slots=True)
class Before:
    """The time, the bills, the dead letters and the processes before a fault."""

    fleet: Fleet
    at: datetime
    bill_log: BillLog
    letters: Mapping[TopicPartition, int]
    pids: Mapping[str, int]

    @classmethod
    async def of(cls, fleet: Fleet) -> Self:
        """The system as it is now."""
        return cls(fleet, await now(fleet), BillLog(fleet), await ends(fleet, DEAD_LETTERS), fleet.pids)

    def assert_same_processes(self, but: Container[str] = ()) -> None:
        """Raises AssertionError if a service has ended since, except those named in `but`."""
        pids = self.fleet.pids
        ended = [name for name, pid in self.pids.items() if name not in but and pids.get(name) != pid]
        assert not ended, f"a service ended: {', '.join(ended)}"

    async def unharmed(self) -> str:
        """What was paid for since, in words, once each run is bound to its attempt.

        Raises AssertionError if there is a new dead letter, an event is stored twice, the number of an attempt is
        missing, or a run was paid for twice.
        """
        assert await ends(self.fleet, DEAD_LETTERS) == self.letters, "there are dead letters"
        assert not await count(self.fleet, TWICE, self.at), "events are stored twice"
        assert not await count(self.fleet, GAPS), "numbers of attempts are missing"
        posts, taken = await all_bound(self.fleet, self.bill_log)
        return f"{taken} runs of {posts} attempts POSTed, each bound, none twice"
