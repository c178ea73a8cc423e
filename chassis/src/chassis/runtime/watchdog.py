"""The watch over a process: it ends when a part has died, when the event loop blocks, or when the drain is too slow."""

from __future__ import annotations

import asyncio
import faulthandler
import os
from pathlib import Path
from typing import Any, Final

from chassis.errors import EXIT_UNHEALTHY
from chassis.observability.log_events import RuntimeEvent
from chassis.observability.logs import get_logger
from chassis.runtime.runtime import Runtime

BLOCKED_LOOP_LIMIT_S = 40.0
EXIT_MARGIN_S = 3.0
TICK_S: Final = 1.0
_MOST_TOLD: Final = 20


async def watch(runtime: Runtime) -> None:
    """Stop the process when a check finds a dead part, and end it when the event loop blocks."""
    log = get_logger("chassis.watchdog")
    while True:
        # A loop that no longer turns cannot watch itself: re-arming this timer is its sign of life.
        faulthandler.dump_traceback_later(BLOCKED_LOOP_LIMIT_S, exit=True)
        if runtime.started and (why := _what_is_dead(runtime)):
            log.critical(RuntimeEvent.COMPONENT_FAILED, reason=why)
            runtime.fail(why)
        if not await runtime.pause(TICK_S):
            return


def _what_is_dead(runtime: Runtime) -> str | None:
    try:
        return runtime.unhealthy()
    except Exception as error:  # noqa: BLE001 - a check that cannot look any more is itself a dead part
        return f"a check of the watchdog: {error!r}"


async def exit_hard_after(runtime: Runtime, drain_s: float) -> None:
    """End the process `drain_s` seconds after it was told to stop, and log what it still waits for."""
    await runtime.stopping.wait()
    # For a loop that is blocked, and for threads that the interpreter would wait for at its end.
    faulthandler.dump_traceback_later(drain_s + EXIT_MARGIN_S, exit=True)
    await asyncio.sleep(drain_s)
    waiting = sorted({_where(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()})
    get_logger("chassis").error(RuntimeEvent.DRAIN_TIMED_OUT, drain_s=drain_s, waiting=waiting[:_MOST_TOLD])
    # Kafka's client can wait for ever in its stop while the cluster is away.
    os._exit(EXIT_UNHEALTHY)


def _where(task: asyncio.Task[Any]) -> str:
    """What a task does and the innermost place it waits at: `Outbox._relay at pool.py:812`."""
    coroutine: Any = task.get_coro()
    name, place = getattr(coroutine, "__qualname__", "?"), "?"
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
    return f"{name} at {place}"
