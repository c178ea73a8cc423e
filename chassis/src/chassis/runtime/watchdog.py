"""The watchdog: ends the process if a component has failed, the event loop blocks, or the drain takes too long."""

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
_MAX_LOGGED: Final = 20


async def watch(runtime: Runtime) -> None:
    """Stop the process if a check reports a failed component, and kill it if the event loop blocks."""
    log = get_logger("chassis.watchdog")
    while True:
        # A blocked loop cannot check itself. This timer ends the process unless the loop rearms it.
        faulthandler.dump_traceback_later(BLOCKED_LOOP_LIMIT_S, exit=True)
        _look_at_dependencies(runtime)
        if runtime.started and (why := _failed_component(runtime)):
            log.critical(RuntimeEvent.COMPONENT_FAILED, reason=why)
            runtime.fail(why)
        if not await runtime.pause(TICK_S):
            return


def _look_at_dependencies(runtime: Runtime) -> None:
    """Look at each, so that it is known since when it is as it is."""
    try:
        runtime.dependencies()
    except Exception:  # noqa: BLE001 - a check that raises is reported by the pages that ask for it
        return


def _failed_component(runtime: Runtime) -> str | None:
    try:
        return runtime.unhealthy()
    except Exception as error:  # noqa: BLE001 - a check that raises has itself failed
        return f"a check of the watchdog: {error!r}"


async def exit_hard_after(runtime: Runtime, drain_s: float) -> None:
    """Exit the process `drain_s` seconds after it starts to stop, and log the tasks that have not ended."""
    await runtime.stopping.wait()
    # For a blocked loop, and for threads that the interpreter waits for at exit.
    faulthandler.dump_traceback_later(drain_s + EXIT_MARGIN_S, exit=True)
    await asyncio.sleep(drain_s)
    waiting = sorted({_where(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()})
    get_logger("chassis").error(RuntimeEvent.DRAIN_TIMED_OUT, drain_s=drain_s, waiting=waiting[:_MAX_LOGGED])
    # Kafka's client may never return from its stop while the cluster is unavailable.
    os._exit(EXIT_UNHEALTHY)


def _where(task: asyncio.Task[Any]) -> str:
    """The coroutine of a task and the innermost line at which it waits: `Outbox._relay at pool.py:812`."""
    coroutine: Any = task.get_coro()
    name, place = getattr(coroutine, "__qualname__", "?"), "?"
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
    return f"{name} at {place}"
