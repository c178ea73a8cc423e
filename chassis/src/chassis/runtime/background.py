"""Background tasks: work that a service does beside its requests and messages for as long as it runs."""

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
    """Run `work` for as long as the block lasts; its end before that ends the process as unhealthy.

    At the end of the block the work is cancelled. Where `finish` is given, it is called instead, and the work ends by
    itself. Work may also end once the process stops. Raises at the end of the block what the work has raised.
    """
    task = asyncio.create_task(work, name=name)
    # At once: the end of the block may never come, where others wait for what this work would have done.
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
            # Awaiting the task itself would take a cancellation of this block for the task's own.
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
