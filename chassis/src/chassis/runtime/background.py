"""Background tasks, which run beside the requests and messages of a service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from chassis.observability.log_events import RuntimeEvent
from chassis.observability.logs import get_logger
from chassis.runtime.runtime import Runtime


@asynccontextmanager
async def background(
    runtime: Runtime, name: str, work: Coroutine[Any, Any, None], *, finish: Callable[[], None] | None = None
) -> AsyncIterator[None]:
    """Run `work` for as long as the block lasts; if it ends earlier, the process exits as unhealthy.

    At the end of the block the work is cancelled; if `finish` is given, it is called instead, and the work ends by
    itself. Work may also end once the process is stopping. An error of the work is raised at the end of the block.
    """
    task = asyncio.create_task(work, name=name)
    # Log at once: the block may never end, if its other tasks wait for this work.
    task.add_done_callback(_log_failure)
    runtime.must_live(lambda: _ended(task) if task.done() and not runtime.stopping.is_set() else None)
    try:
        yield
    finally:
        if finish is None:
            task.cancel()
        else:
            finish()
        try:
            # If the task were awaited directly, a cancellation of this block would look like the task's own.
            await asyncio.wait([task])
        finally:
            task.cancel()
        if not task.cancelled():
            task.result()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        get_logger("chassis.background").error(
            RuntimeEvent.BACKGROUND_TASK_FAILED, task=task.get_name(), exc_info=error
        )


def _ended(task: asyncio.Task[None]) -> str:
    error = None if task.cancelled() else task.exception()
    return f"{task.get_name()} has ended" + (f" ({type(error).__name__})" if error else "")
