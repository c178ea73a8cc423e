"""A background task runs as long as its block, and the process exits if it ends early."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from chassis.observability.telemetry import make_telemetry
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("toy", make_telemetry("toy", None))


async def end() -> None:
    """Work that ends at once."""


async def fail() -> None:
    raise LookupError("hunter2")


async def test_it_is_cancelled_and_awaited_at_the_end_of_the_block(runtime: Runtime) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    async with background(runtime, "the pump", work()):
        await asyncio.sleep(0)
        assert runtime.unhealthy() is None
    assert ended == ["cleaned up"]


async def test_a_task_that_is_to_finish_ends_by_itself(runtime: Runtime) -> None:
    asked = asyncio.Event()
    ended: list[str] = []

    async def work() -> None:
        await asked.wait()
        await asyncio.sleep(0)
        ended.append("by itself")

    async with background(runtime, "the pump", work(), finish=asked.set):
        await asyncio.sleep(0)
    assert ended == ["by itself"]


async def test_its_early_end_is_reported_unless_the_process_is_stopping(runtime: Runtime) -> None:
    async with background(runtime, "the pump", end()):
        await asyncio.sleep(0)
        assert runtime.unhealthy() == "the pump has ended"
        runtime.stopping.set()
        assert runtime.unhealthy() is None


async def test_a_failure_is_reported_by_its_type_and_raised_at_the_end_of_the_block(runtime: Runtime) -> None:
    told: list[str | None] = []

    async def block() -> None:
        async with background(runtime, "the pump", fail()):
            await asyncio.sleep(0)
            told.append(runtime.unhealthy())

    with capture_logs() as logs, pytest.raises(LookupError, match="hunter2"):
        await block()
    assert told == ["the pump has ended (LookupError)"]
    assert [(line["log_level"], line["task"]) for line in logs] == [("error", "the pump")]


async def test_an_unrequested_cancellation_is_an_early_end(runtime: Runtime) -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    async with background(runtime, "the pump", work()):
        await asyncio.sleep(0)
        assert runtime.unhealthy() == "the pump has ended"


async def test_cancelling_the_block_ends_work_that_does_not_finish(runtime: Runtime) -> None:
    leaving = asyncio.Event()
    cancelled: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("work")
            raise

    async def block() -> None:
        async with background(runtime, "the pump", work(), finish=leaving.set):
            await asyncio.sleep(0)

    task = asyncio.create_task(block())
    await leaving.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert cancelled == ["work"]
