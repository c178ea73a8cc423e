"""Running a command until it ends or is stopped; in both cases everything it opened is closed first."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final

INTERRUPTED: Final = 130
"""The exit code of a command that was stopped before it was done."""


def run_until_told(main: Coroutine[Any, Any, int]) -> int:
    """Run `main` and return its exit code, or 130 if SIGINT, SIGTERM or SIGHUP cancelled it.

    Only the first signal counts: a second one must not interrupt the stopping of child processes.
    """
    return asyncio.run(_until_told(main))


async def _until_told(main: Coroutine[Any, Any, int]) -> int:
    task = asyncio.ensure_future(main)
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def stop() -> None:
        if not told.is_set():
            told.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if not told.is_set():
            raise
        return INTERRUPTED
