"""What outsiders can cause is logged once a kind and minute, with the number of times; it cannot fill a disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from chassis.observability.log_event import LogEvent, Logger

EVERY_S: Final = 60.0
CAUSED_OUTSIDE: Final = ("asyncio", "uvicorn", "h11", "gateway")
"""Loggers, with all below them, whose warnings and errors anybody can cause who reaches a listener."""
_MOST_KINDS: Final = 1000
_MOST_CHARS: Final = 200

Kind = tuple[str, ...]


@dataclass(slots=True)
class _Said:
    at: float
    withheld: int = 0


class OutsideWarnings(logging.Filter):
    """Lets one warning of a kind pass in a minute; the next one says how many were withheld, as `suppressed`.

    A kind is a logger, a level, an event, its reason and the type of its exception. Only the loggers in CAUSED_OUTSIDE
    are concerned, and only from WARNING on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: OrderedDict[Kind, _Said] = OrderedDict()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        if record.levelno < logging.WARNING or not _caused_outside(record.name):
            return True
        with self._lock:
            withheld = self._withheld_before(_kind_of(record), self._clock())
        if withheld:
            record.suppressed = withheld
            if isinstance(record.msg, dict):
                record.msg = {**record.msg, "suppressed": withheld}
        return withheld is not None

    def _withheld_before(self, kind: Kind, now: float) -> int | None:
        """How many were withheld since the last one that passed; None if this one is withheld too."""
        said = self._said.get(kind)
        if said is not None and now - said.at < EVERY_S:
            said.withheld += 1
            return None
        self._said[kind] = _Said(now)
        self._said.move_to_end(kind)
        if len(self._said) > _MOST_KINDS:
            self._said.popitem(last=False)
        return said.withheld if said is not None else 0


class Tally:
    """Counts events by reason, and logs each reason at once, and then once a minute with the number since.

    For what comes so often that even a line that is thrown away would cost too much.
    """

    def __init__(self, log: Logger, event: LogEvent) -> None:
        self._log, self._event = log, event
        self._counts: Counter[str] = Counter()
        self._latest: dict[str, str] = {}
        self._said: dict[str, float] = {}

    def note(self, reason: str, peer: str) -> None:
        """Count one."""
        self._counts[reason] += 1
        self._latest[reason] = peer

    def report(self, now: float) -> None:
        """Log what is due."""
        for reason in [each for each in self._counts if now - self._said.get(each, -EVERY_S) >= EVERY_S]:
            self._said[reason] = now
            self._log.warning(
                self._event, reason=reason, count=self._counts.pop(reason), latest_peer=self._latest.pop(reason)
            )


def _caused_outside(logger: str) -> bool:
    return any(logger == name or logger.startswith(f"{name}.") for name in CAUSED_OUTSIDE)


def _kind_of(record: logging.LogRecord) -> Kind:
    said = record.msg if isinstance(record.msg, dict) else {"event": record.msg}
    # asyncio names sockets and objects in the lines that follow the first one.
    event = str(said.get("event", "")).partition("\n")[0][:_MOST_CHARS]
    reason = str(said.get("reason", ""))[:_MOST_CHARS]
    raised = said.get("exc_info") or record.exc_info
    error = raised[1] if isinstance(raised, tuple) else raised
    return record.name, record.levelname, event, reason, type(error).__name__
