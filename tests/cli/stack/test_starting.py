"""A start that takes its time says what it waits for; one whose part has died does not go on waiting."""

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
async def test_it_says_what_is_waited_for_and_falls_silent(terminal: bool) -> None:
    out, parts = io.StringIO(), Starting()
    screen = Console(file=out, force_terminal=terminal, width=160)

    async def says(words: str) -> None:
        async def said() -> bool:
            return words in out.getvalue()

        await eventually(said, what=words, tell=out.getvalue)

    async with told(screen, "Starting Segue", parts):
        with parts.part("kafka"):
            with parts.part("postgres"):
                await says("waiting for kafka, postgres")
            out.truncate(0)
            await says("waiting for kafka")
        await says("waiting for what comes next")
    at_the_end = out.getvalue()
    assert ("Starting Segue … 0 s, waiting for" in at_the_end) or terminal
    await asyncio.sleep(0.1)
    assert out.getvalue() == at_the_end


async def test_a_part_that_fails_is_no_longer_waited_for() -> None:
    parts = Starting()
    with pytest.raises(ChildFailed, match="ended with 3"), parts.part("one"):
        async with child([sys.executable, "-c", "raise SystemExit(3)"], name="one", ready=ready_with("port")):
            pytest.fail("it was never ready")
    assert str(parts) == "what comes next"


async def test_a_child_that_dies_is_told_of_long_before_the_limit() -> None:
    assert START_LIMIT_S >= 300
    began = time.monotonic()
    with pytest.raises(ChildFailed, match="ended with 1"):
        async with child([sys.executable, "-c", "raise SystemExit(1)"], name="one", ready=ready_with("port")):
            pytest.fail("it was never ready")
    assert time.monotonic() - began < START_LIMIT_S / 2
