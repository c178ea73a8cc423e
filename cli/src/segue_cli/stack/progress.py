"""Progress output during a start: on a slow machine it takes minutes, and the user sees that it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from rich.console import Console

EVERY_S: Final = 1.0
LINE_EVERY_S: Final = 15.0
"""Seconds between two lines in a file or pipe; on a terminal the line changes every `EVERY_S` seconds."""


class Starting:
    """The parts that are being started."""

    def __init__(self) -> None:
        self._names: list[str] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Mark this part as being started for the length of the block."""
        self._names.append(name)
        try:
            yield
        finally:
            self._names.remove(name)

    def __str__(self) -> str:
        return ", ".join(self._names) or "what comes next"


@asynccontextmanager
async def told(out: Console, what: str, starting: Starting) -> AsyncIterator[None]:
    """Print for the length of the block which part is being waited for, and how long."""
    telling = asyncio.create_task(_tell(out, what, starting))
    try:
        yield
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling


async def _tell(out: Console, what: str, starting: Starting) -> None:
    began = said_at = time.monotonic()
    with out.status(f"{what} …") as status:
        while True:
            await asyncio.sleep(EVERY_S)
            now = time.monotonic()
            line = f"{what} … {now - began:.0f} s, waiting for {starting}"
            status.update(line)
            if not out.is_terminal and now - said_at >= LINE_EVERY_S:
                said_at = now
                out.print(line, markup=False)
