"""Whose time it is. The gateway's own clock decides nothing.

Two others do. Kafka's brokers stamp what is put into segue.requests, and their clock says whether a request arrived
before its acceptance deadline. Postgres' clock says when a job's deadline is over, and when things happened. The
gateway tells their time by what they told it last and by its steady clock, which nobody sets. So a clock of its own
that is wrong, or is set while jobs come in, changes nothing. It is reported.
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
"""A difference from another clock that is worth no words."""
MEASURE_EVERY_S: Final = 10.0
MEASURE_LIMIT_S: Final = 3.0
CONFIRMED_FOR_S: Final = 60.0
SAID_AGAIN_S: Final = 60.0
"""Brokers whose clocks differ tell another time with each request; no more than a line a minute speaks of it."""
DRIFT: Final = 0.0005
"""Seconds by which a steady clock may be off after a second: 500 ppm, the most by which ntpd or chronyd slew one."""

_TIME = "SELECT extract(epoch FROM clock_timestamp())::float8"

Reference = Literal["database", "kafka"]
_OWNERS: Final[dict[Reference, str]] = {"database": "the database's", "kafka": "Kafka's"}


@dataclass(frozen=True, slots=True)
class Reading:
    """What another clock has told, as seconds between it and the steady clock here."""

    offset_s: float
    error_s: float
    """The offset is right to within this: the answer was under way for twice as long."""
    at_s: float
    """By the steady clock."""


def reading(told_s: float, sent_s: float, heard_s: float) -> Reading:
    """What follows from a time that was told between two times of the steady clock."""
    return Reading(told_s - (sent_s + heard_s) / 2, (heard_s - sent_s) / 2, heard_s)


def better(known: Reading | None, new: Reading) -> Reading:
    """The reading to go by: the more exact one, or the new one where both cannot be right and a clock was set."""
    if known is None:
        return new
    error_s = known.error_s + DRIFT * (new.at_s - known.at_s)
    contradicts = abs(new.offset_s - known.offset_s) > error_s + new.error_s
    return new if contradicts or new.error_s <= error_s else known


def _steady() -> float:
    """Seconds since some moment, whatever the clock is set to; with the time in which the machine slept, if it can."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clocks:
    """The time by the database's clock and by Kafka's, and how far the own one is from them."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = _steady) -> None:
        """`wall` is this machine's clock, as Unix time."""
        self._wall = wall
        self.steady = steady
        self._known: dict[Reference, Reading] = {}
        self._heard_s: float | None = None
        self._said: str | None = None
        self._said_at_s = -SAID_AGAIN_S
        self._away = False
        self._log = get_logger("gateway.clocks")

    def now(self) -> datetime:
        """The time by the database's clock."""
        return datetime.fromtimestamp(self._time("database", "kafka"), UTC)

    def kafka_now(self) -> datetime:
        """The time by Kafka's clock; by the database's as long as no broker has told its own."""
        return datetime.fromtimestamp(self._time("kafka", "database"), UTC)

    def outside_s(self) -> float:
        """Unix time as the rest of the world has it: of three clocks the middle one, of two the other one."""
        others = [self._time(reference) for reference in self._known]
        return median([self._wall(), *others]) if len(others) > 1 else (others or [self._wall()])[0]

    def is_confirmed(self) -> bool:
        """Whether another clock was heard within the last minute."""
        return self._heard_s is not None and self.steady() - self._heard_s < CONFIRMED_FOR_S

    def learn(self, reference: Reference, told_s: float, sent_s: float, heard_s: float) -> None:
        """Take a time that another clock told, between two times of the steady clock."""
        self._heard_s = heard_s
        known = self._known[reference] = better(self._known.get(reference), reading(told_s, sent_s, heard_s))
        CLOCK_DIFFERENCE.labels(reference).set(self._ahead_s(known))
        self._report()

    def complaint(self) -> str | None:
        """What is wrong with the own clock, in words; None if it goes with the others."""
        told = [
            f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} {_OWNERS[reference]}"
            for reference, known in self._known.items()
            if abs(ahead_s := self._ahead_s(known)) > TOLERANCE_S + known.error_s
        ]
        return f"this machine's clock is {' and '.join(told)}; deadlines go by theirs" if told else None

    @asynccontextmanager
    async def watched(self, pool: Pool, runtime: Runtime) -> AsyncIterator[None]:
        """Ask the database for its time, now and for as long as the block lasts."""
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
                told_s = await connection.fetchval(_TIME)
                heard_s = self.steady()
        except TRANSIENT as error:
            if not self._away:
                self._log.warning(GatewayEvent.DATABASE_CLOCK_UNKNOWN, error=repr(error))
            self._away = True
        else:
            self._away = False
            self.learn("database", told_s, sent_s, heard_s)

    def _time(self, *references: Reference) -> float:
        known = next((self._known[each] for each in references if each in self._known), None)
        return self._wall() if known is None else self.steady() + known.offset_s

    def _ahead_s(self, known: Reading) -> float:
        return self._wall() - (self.steady() + known.offset_s)

    def _report(self) -> None:
        complaint, now_s = self.complaint(), self.steady()
        if (complaint is None) == (self._said is None) or now_s - self._said_at_s < SAID_AGAIN_S:
            return
        if complaint is not None:
            self._log.warning(GatewayEvent.CLOCK_DIFFERS, reason=complaint)
        else:
            self._log.info(GatewayEvent.CLOCK_AGREES)
        self._said, self._said_at_s = complaint, now_s
