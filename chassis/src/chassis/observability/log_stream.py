"""The stream of log records: it takes each at once, and writes several at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import RLock
from time import monotonic
from typing import Final, TextIO

WRITE_AFTER_S: Final = 0.005
"""Seconds until a record is written. A process that is killed may lose the records of this time."""

NOT_WRITTEN: Final = (OSError, ValueError)
"""The errors of a stream that nobody reads any more, or that is closed."""


class LogStream:
    """Writes to another stream, at once or a little later.

    A write wakes whoever reads the stream, and takes two thirds of the time of a record. Meanwhile the job could go on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._taken: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due = 0.0
        self._lock = RLock()

    def write(self, text: str) -> None:
        """Take a text, which `flush` or `flush_soon` writes."""
        with self._lock:
            self._taken.append(text)

    def flush(self) -> None:
        """Write what was taken. Raises one of NOT_WRITTEN; it is lost then."""
        with self._lock:
            taken, self._taken = self._taken, []
            if taken:
                self._stream.write("".join(taken))
            self._stream.flush()

    def flush_soon(self) -> None:
        """Write what was taken within 5 ms, or at once outside of an event loop. Raises as `flush` does."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        with self._lock:
            # Another loop, or this one before it was suspended, may not have written in time.
            if self._loop is not loop or self._due <= monotonic():
                self._loop, self._due = loop, monotonic() + WRITE_AFTER_S
                loop.call_later(WRITE_AFTER_S, self._flush_in_time)

    def _flush_in_time(self) -> None:
        with suppress(*NOT_WRITTEN):
            self.flush()
