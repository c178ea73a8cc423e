"""The stream of log records: it takes each at once, and writes several at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import RLock
from time import monotonic
from typing import Final, TextIO

WRITE_AFTER_S: Final = 0.005
"""Seconds until a record is written. A process that is killed, or blocked until it is, may lose those of this time."""

NOT_WRITTEN: Final = (OSError, ValueError)
"""The errors of a stream that nobody reads any more, or that is closed."""


class LogStream:
    """Writes to another stream, at once or a little later.

    A write wakes whoever reads the stream, and takes two thirds of the time of a record. Meanwhile the job could go on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._taken: list[str] = []
        self._since = 0.0
        """When the first of them was taken (monotonic seconds)."""
        self._writes_on: asyncio.AbstractEventLoop | None = None
        """The event loop that is to write them."""
        self.lock = RLock()
        """Held while it is used. A handler of `logging` has to use the same: a destructor may log meanwhile."""

    def write(self, text: str) -> None:
        """Take a text, which `flush` or `flush_soon` writes."""
        with self.lock:
            if not self._taken:
                self._since = monotonic()
            self._taken.append(text)

    def flush(self) -> None:
        """Write what was taken. Raises one of NOT_WRITTEN; it is lost then."""
        with self.lock:
            # Made before: while it is, a destructor may log, and write the taken ones.
            empty: list[str] = []
            taken, self._taken = self._taken, empty
            if taken:
                self._stream.write("".join(taken))
            self._stream.flush()

    def flush_soon(self) -> None:
        """Write what was taken within 5 ms; at once outside of an event loop, or if one is late. Raises as `flush`."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        with self.lock:
            if monotonic() - self._since > WRITE_AFTER_S:
                self.flush()
            elif self._writes_on is not loop:
                self._writes_on = loop
                loop.call_later(WRITE_AFTER_S, self._flush_in_time)

    def _flush_in_time(self) -> None:
        with self.lock, suppress(*NOT_WRITTEN):
            self._writes_on = None
            self.flush()
