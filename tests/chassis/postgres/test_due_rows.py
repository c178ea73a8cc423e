"""Due rows are claimed when they are due or on a wake-up, through outages; a loop that hangs is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, repeat

import pytest
import uvloop
from structlog.testing import capture_logs
from tests.patience import eventually

from chassis.observability.telemetry import make_telemetry
from chassis.postgres import due_rows
from chassis.postgres.due_rows import Claimed, DueRows
from chassis.runtime.runtime import Runtime

NONE_WAITS = Claimed(some=False, next_s=None)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("toy", make_telemetry("toy", None))


class Table:
    """Returns or raises the prepared result of each pass, then claims nothing."""

    def __init__(self, *passes: Claimed | Exception) -> None:
        self._passes: Iterator[Claimed | Exception] = chain(passes, repeat(NONE_WAITS))
        self.count = 0

    async def claim(self) -> Claimed:
        self.count += 1
        found = next(self._passes)
        if isinstance(found, Exception):
            raise found
        return found

    async def passed(self, count: int) -> None:
        async def enough() -> bool:
            return self.count >= count

        await eventually(enough, 30)


@pytest.mark.parametrize("next_s", [0.0, 0.02, -3.0])
async def test_the_next_pass_starts_when_the_next_row_is_due(runtime: Runtime, next_s: float) -> None:
    table = Table(Claimed(some=True, next_s=next_s))
    async with DueRows(runtime, "the loop").running(table.claim):
        await table.passed(2)


@pytest.mark.parametrize(
    ("claimed", "pause_s"),
    [
        (NONE_WAITS, due_rows.LONGEST_SLEEP_S),
        (Claimed(some=True, next_s=60.0), due_rows.LONGEST_SLEEP_S),
        (Claimed(some=False, next_s=-3.0), due_rows.LOCKED_S),
        (Claimed(some=True, next_s=-3.0), 0.0),
        (Claimed(some=False, next_s=0.5), 0.5),
    ],
)
def test_rows_locked_by_others_are_claimed_after_a_pause(claimed: Claimed, pause_s: float) -> None:
    assert claimed.pause_s == pause_s


async def test_a_wake_up_ends_the_sleep(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_rows, "LONGEST_SLEEP_S", 3600.0)
    table = Table()
    due = DueRows(runtime, "the loop")
    async with due.running(table.claim):
        await table.passed(1)
        due.wake()
        await table.passed(2)
    assert table.count == 2


@pytest.mark.parametrize("wakes", [(0.02,), (3600.0, 0.02), (0.02, 3600.0)], ids=str)
async def test_a_wake_up_in_some_seconds_ends_the_sleep_then(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, wakes: tuple[float, ...]
) -> None:
    monkeypatch.setattr(due_rows, "LONGEST_SLEEP_S", 3600.0)
    table = Table()
    due = DueRows(runtime, "the loop")
    async with due.running(table.claim):
        await table.passed(1)
        for seconds in wakes:
            due.wake_within(seconds)
        await table.passed(2)
    assert table.count == 2


def test_a_wake_up_that_is_due_at_once_ends_the_sleep_on_the_event_loop_of_services(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_rows, "LONGEST_SLEEP_S", 3600.0)

    async def woken() -> int:
        table = Table()
        due = DueRows(runtime, "the loop")
        async with due.running(table.claim):
            await table.passed(1)
            due.wake_within(0.0)
            due.wake_within(3600.0)
            await table.passed(2)
        return table.count

    assert uvloop.run(woken()) == 2


async def test_a_wake_up_during_a_pass_is_kept(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_rows, "LONGEST_SLEEP_S", 3600.0)
    table = Table()
    due = DueRows(runtime, "the loop")

    async def claim() -> Claimed:
        if table.count == 0:
            due.wake_within(0.02)
        return await table.claim()

    async with due.running(claim):
        await table.passed(2)
    assert table.count == 2


async def test_while_the_database_is_unavailable_the_loop_continues(runtime: Runtime) -> None:
    table = Table(ConnectionRefusedError("away"))
    with capture_logs() as logs:
        async with DueRows(runtime, "the loop").running(table.claim):
            await table.passed(2)
            assert runtime.unhealthy() is None
    assert [(line["loop"], line["error"]) for line in logs] == [("the loop", "ConnectionRefusedError('away')")]


async def test_another_error_ends_the_loop(runtime: Runtime) -> None:
    table = Table(LookupError("a bug"))
    told: list[str | None] = []

    async def block() -> None:
        async with DueRows(runtime, "the loop").running(table.claim):
            await table.passed(1)
            await asyncio.sleep(0)
            told.append(runtime.unhealthy())

    with pytest.raises(LookupError):
        await block()
    assert told == ["the loop has ended (LookupError)"]


async def test_the_current_pass_ends_before_the_block(runtime: Runtime) -> None:
    begun, committed = asyncio.Event(), asyncio.Event()

    async def claim() -> Claimed:
        begun.set()
        await asyncio.sleep(0)
        committed.set()
        return Claimed(some=True, next_s=0.0)

    async with DueRows(runtime, "the loop").running(claim):
        await begun.wait()
    assert committed.is_set()


async def test_a_pass_that_hangs_is_reported(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_rows, "STALL_S", 0.0)
    never, begun = asyncio.Event(), asyncio.Event()

    async def claim() -> Claimed:
        begun.set()
        await never.wait()
        return NONE_WAITS

    async with DueRows(runtime, "the loop").running(claim):
        await begun.wait()
        assert runtime.unhealthy() == "the loop has made no pass for 0 s"
        never.set()
