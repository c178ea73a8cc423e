"""A slow start prints the components that it waits for, and ends if one of them has died."""

from __future__ import annotations

import asyncio
import io
import sys
import time

import pytest
from rich.console import Console
from tests.patience import eventually

from segue_cli.local.process import START_LIMIT_S, ChildFailed, child, ready_with
from segue_cli.stack import progress
from segue_cli.stack.progress import Starting, told


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.02)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("terminal", [False, True])
async def test_it_prints_the_awaited_components_and_stops_printing_at_the_end(terminal: bool) -> None:
    out, parts = io.StringIO(), Starting()
    screen = Console(file=out, force_terminal=terminal, width=160)

    async def until_printed(words: str) -> None:
        async def printed() -> bool:
            return words in out.getvalue()

        await eventually(printed, what=words, tell=out.getvalue)

    async with told(screen, "Starting Segue", parts):
        with parts.part("kafka"):
            with parts.part("postgres"):
                await until_printed("waiting for kafka, postgres")
            out.truncate(0)
            await until_printed("waiting for kafka")
        await until_printed("waiting for what comes next")
    at_the_end = out.getvalue()
    assert ("Starting Segue … 0 s, waiting for" in at_the_end) or terminal
    await asyncio.sleep(0.1)
    assert out.getvalue() == at_the_end


async def test_a_component_that_fails_is_no_longer_awaited() -> None:
    parts = Starting()
    with pytest.raises(ChildFailed, match="ended with 3"), parts.part("one"):
        async with child([sys.executable, "-c", "raise SystemExit(3)"], name="one", ready=ready_with("port")):
            pytest.fail("it was never ready")
    assert str(parts) == "what comes next"


async def test_a_child_that_dies_fails_the_start_long_before_the_limit() -> None:
    assert START_LIMIT_S >= 300
    began = time.monotonic()
    with pytest.raises(ChildFailed, match="ended with 1"):
        async with child([sys.executable, "-c", "raise SystemExit(1)"], name="one", ready=ready_with("port")):
            pytest.fail("it was never ready")
    assert time.monotonic() - began < START_LIMIT_S / 2
