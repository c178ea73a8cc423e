"""Estimates the time of the database and of Kafka, so that no decision depends on this machine's clock.

Kafka's brokers timestamp the records of segue.requests; their clock decides whether a request arrived before its
acceptance deadline. PostgreSQL's clock decides when a job's deadline has passed, and dates the events. The gateway
computes both times from their last readings and a steady clock, which is never set. So a wrong clock of this machine,
or one that is set while jobs arrive, has no effect; a difference is reported.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Final, Literal

from chassis.observability.logs import get_logger
from chassis.postgres.limits import bounded
from chassis.postgres.pool import TRANSIENT, Pool
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime
from gateway.log_events import GatewayEvent
from gateway.metrics import CLOCK_DIFFERENCE

TOLERANCE_S: Final = 2.0
"""Smaller differences between two clocks are not reported."""
MEASURE_EVERY_S: Final = 10.0
"""Seconds between two readings of the database's clock."""
MEASURE_LIMIT_S: Final = 3.0
"""Seconds that one reading of the database's clock may take."""
CONFIRMED_FOR_S: Final = 60.0
"""Seconds for which a reading of another clock confirms this machine's."""
REPORT_EVERY_S: Final = 60.0
"""Seconds between two reports at least: brokers with different clocks give another reading with each request."""
DRIFT: Final = 0.0005
"""The error of a steady clock in seconds per second: 500 ppm, the largest slew of ntpd and chronyd."""

_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"

Reference = Literal["database", "kafka"]
_OWNERS: Final[dict[Reference, str]] = {"database": "the database's", "kafka": "Kafka's"}


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of another clock, as its offset from the steady clock."""

    offset_s: float
    error_s: float
    """The largest error of the offset: half of the round-trip time."""
    at_s: float
    """The time of the reading by the steady clock."""


def reading(time_s: float, sent_s: float, received_s: float) -> Reading:
    """The reading for a time that another clock had between two times of the steady clock."""
    return Reading(time_s - (sent_s + received_s) / 2, (received_s - sent_s) / 2, received_s)


def better(known: Reading | None, new: Reading) -> Reading:
    """The more exact of two readings; the new one if they contradict each other, which means that a clock was set."""
    if known is None:
        return new
    error_s = known.error_s + DRIFT * (new.at_s - known.at_s)
    contradicts = abs(new.offset_s - known.offset_s) > error_s + new.error_s
    return new if contradicts or new.error_s <= error_s else known


def _steady() -> float:
    """Seconds of a clock that is never set, including the time in which the machine was suspended where possible."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clocks:
    """The time by the database's and by Kafka's clock, and the difference of this machine's clock from them."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = _steady) -> None:
        """`wall` returns the time of this machine as Unix time, `steady` that of the steady clock, both in seconds."""
        self._wall = wall
        self.steady = steady
        self._known: dict[Reference, Reading] = {}
        self._read_at_s: float | None = None
        self._reported: str | None = None
        self._reported_at_s = -REPORT_EVERY_S
        self._database_unavailable = False
        self._log = get_logger("gateway.clocks")

    def now(self) -> datetime:
        """The time by the database's clock."""
        return datetime.fromtimestamp(self._time("database", "kafka"), UTC)

    def kafka_now(self) -> datetime:
        """The time by Kafka's clock; by the database's until there is a reading of Kafka's."""
        return datetime.fromtimestamp(self.kafka_now_s(), UTC)

    def kafka_now_s(self) -> float:
        """As `kafka_now`, as Unix time."""
        return self._time("kafka", "database")

    def outside_s(self) -> float:
        """The best estimate of Unix time: the median of three clocks; of two, the one that is not this machine's."""
        others = [self._time(reference) for reference in self._known]
        return median([self._wall(), *others]) if len(others) > 1 else (others or [self._wall()])[0]

    def is_confirmed(self) -> bool:
        """Whether another clock was read within the last minute."""
        return self._read_at_s is not None and self.steady() - self._read_at_s < CONFIRMED_FOR_S

    def learn(self, reference: Reference, time_s: float, sent_s: float, received_s: float) -> None:
        """Add a reading: the other clock had `time_s` between two times of the steady clock."""
        self._read_at_s = received_s
        known = self._known[reference] = better(self._known.get(reference), reading(time_s, sent_s, received_s))
        CLOCK_DIFFERENCE.labels(reference).set(self._ahead_s(known))
        self._report()

    def complaint(self) -> str | None:
        """How this machine's clock differs from the others; None if it agrees with them."""
        differences = [
            f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} {_OWNERS[reference]}"
            for reference, known in self._known.items()
            if abs(ahead_s := self._ahead_s(known)) > TOLERANCE_S + known.error_s
        ]
        return f"this machine's clock is {' and '.join(differences)}; deadlines go by theirs" if differences else None

    @asynccontextmanager
    async def watched(self, pool: Pool, runtime: Runtime) -> AsyncIterator[None]:
        """Read the database's clock now, and regularly until the block ends."""
        await self._measure(pool)
        runtime.warns(self.complaint)
        async with background(runtime, "the clock watch", self._watch(pool, runtime)):
            yield

    async def _watch(self, pool: Pool, runtime: Runtime) -> None:
        while await runtime.pause(MEASURE_EVERY_S):
            await self._measure(pool)

    async def _measure(self, pool: Pool) -> None:
        try:
            async with bounded(pool, MEASURE_LIMIT_S) as connection:
                sent_s = self.steady()
                time_s = await connection.fetchval(_NOW)
                received_s = self.steady()
        except TRANSIENT as error:
            if not self._database_unavailable:
                self._log.warning(GatewayEvent.DATABASE_CLOCK_UNKNOWN, error=repr(error))
            self._database_unavailable = True
        else:
            self._database_unavailable = False
            self.learn("database", time_s, sent_s, received_s)

    def _time(self, *references: Reference) -> float:
        for each in references:
            if (known := self._known.get(each)) is not None:
                return self.steady() + known.offset_s
        return self._wall()

    def _ahead_s(self, known: Reading) -> float:
        return self._wall() - (self.steady() + known.offset_s)

    def _report(self) -> None:
        complaint, now_s = self.complaint(), self.steady()
        if (complaint is None) == (self._reported is None) or now_s - self._reported_at_s < REPORT_EVERY_S:
            return
        if complaint is not None:
            self._log.warning(GatewayEvent.CLOCK_DIFFERS, reason=complaint)
        else:
            self._log.info(GatewayEvent.CLOCK_AGREES)
        self._reported, self._reported_at_s = complaint, now_s
