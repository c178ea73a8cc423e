"""Limits on log records that outsiders can cause: one per kind and minute, so that they cannot fill a disk."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from structlog.typing import EventDict

from chassis.observability.log_event import LogEvent, Logger

EVERY_S: Final = 60.0
CAUSED_OUTSIDE: Final = ("asyncio", "uvicorn", "h11", "gateway", "aiokafka")
"""Loggers, with their children, whose warnings and errors others cause: any client of a listener, or a broker.

While no broker answers, aiokafka logs some 300 records a second.
"""
_LIMITED: Final = ("warning", "error", "critical")
_MAX_KINDS: Final = 1000
_MAX_CHARS: Final = 200

Kind = tuple[str, ...]


@dataclass(slots=True)
class _Passed:
    at: float
    withheld: int = 0


class OutsideWarnings(logging.Filter):
    """Passes one record of a kind per minute; the next one has the number of withheld records as `suppressed`.

    A kind is a logger, a level, an event, its reason and the type of its exception. The limit applies only to the
    loggers in CAUSED_OUTSIDE, and from WARNING on. It is a filter for the records of libraries, and a processor for
    Segue's own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed: OrderedDict[Kind, _Passed] = OrderedDict()
        self._lock = threading.RLock()  # A destructor may log while it is held.

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record of a library is written."""
        if record.levelno < logging.WARNING or not _caused_outside(record.name):
            return True
        withheld = self._withheld_before(_kind(record.name, record.levelname, record.msg, "", record.exc_info))
        if withheld:
            record.suppressed = withheld
        return withheld is not None

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        """A record of Segue that is written; raises DropEvent if it is withheld."""
        level, name = event["level"], event["logger"]
        if level not in _LIMITED or not _caused_outside(name):
            return event
        kind = _kind(name, level, event.get("event"), event.get("reason", ""), event.get("exc_info"))
        withheld = self._withheld_before(kind)
        if withheld is None:
            raise structlog.DropEvent
        if withheld:
            event["suppressed"] = withheld
        return event

    def _withheld_before(self, kind: Kind) -> int | None:
        """The number of records withheld since the last one that passed; None if this one is withheld too."""
        with self._lock:
            now, last = self._clock(), self._passed.get(kind)
            if last is not None and now - last.at < EVERY_S:
                last.withheld += 1
                return None
            self._passed[kind] = _Passed(now)
            self._passed.move_to_end(kind)
            if len(self._passed) > _MAX_KINDS:
                self._passed.popitem(last=False)
            return last.withheld if last is not None else 0


class Tally:
    """Counts events by reason; logs the first of each reason at once, and then the number once a minute.

    For events so frequent that even a suppressed log record would cost too much.
    """

    def __init__(self, log: Logger, event: LogEvent) -> None:
        self._log, self._event = log, event
        self._counts: Counter[str] = Counter()
        self._latest: dict[str, str] = {}
        self._passed: dict[str, float] = {}

    def note(self, reason: str, peer: str) -> None:
        """Count one event."""
        self._counts[reason] += 1
        self._latest[reason] = peer

    def report(self, now: float) -> None:
        """Log the reasons that are due; `now` is in seconds of a monotonic clock."""
        for reason in [each for each in self._counts if now - self._passed.get(each, -EVERY_S) >= EVERY_S]:
            self._passed[reason] = now
            self._log.warning(
                self._event, reason=reason, count=self._counts.pop(reason), latest_peer=self._latest.pop(reason)
            )


def _caused_outside(logger: str) -> bool:
    return any(logger == name or logger.startswith(f"{name}.") for name in CAUSED_OUTSIDE)


def _kind(logger: str, level: str, event: object, reason: object, exc_info: object) -> Kind:
    # After the first line, asyncio lists sockets and objects, which differ in each record.
    text = str(event).partition("\n")[0][:_MAX_CHARS]
    raised = sys.exc_info() if exc_info is True else exc_info
    error = raised[1] if isinstance(raised, tuple) else raised
    return logger, level.lower(), text, str(reason)[:_MAX_CHARS], type(error).__name__
