"""A process that ends is noted with its exit code, unless it was told to end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.patience import eventually

from chaos.cluster.disturbances import Disturbances, ProcessEnd
from chaos.cluster.replica import Replica
from chaos.load.faults import disturbance_windows


@asynccontextmanager
async def replica_of(script: str, folder: Path) -> AsyncIterator[tuple[Replica, Any]]:
    """A replica whose interpreter is a script, and the fleet that it belongs to."""
    fleet: Any = SimpleNamespace(
        folder=folder, env={}, tally=Counter(), disturbances=Disturbances(), process_ends=list[object]()
    )
    interpreter = folder / "python"
    interpreter.write_text(f"#!/bin/sh\n{script}\n")
    interpreter.chmod(0o700)
    (folder / "logs").mkdir()
    replica = Replica(fleet, "fal-adapter", "fal-adapter-1")
    replica.python = os.fspath(interpreter)
    try:
        yield replica, fleet
    finally:
        await replica.close()


async def test_an_end_that_nobody_asked_for_is_noted(tmp_path: Path) -> None:
    async with replica_of("exit 78", tmp_path) as (replica, fleet):
        await replica.start()

        async def noted() -> list[ProcessEnd]:
            return list(fleet.process_ends)

        (end,) = await eventually(noted)
        assert (end.replica, end.service, end.code) == ("fal-adapter-1", "fal-adapter", 78)


async def test_the_end_of_a_process_that_was_killed_is_not_noted(tmp_path: Path) -> None:
    async with replica_of("exec sleep 60", tmp_path) as (replica, fleet):
        await replica.start()
        await replica.kill()
        await replica.start()
        assert not fleet.process_ends
        (window,) = disturbance_windows(fleet.disturbances.since(0))
        assert (window.fault, window.provider, "never_accepted" in window.explains) == (
            "SIGKILL fal-adapter-1",
            "fal",
            True,
        )


async def test_the_end_of_a_process_with_a_crash_point_is_not_noted(tmp_path: Path) -> None:
    async with replica_of("exit 1", tmp_path) as (replica, fleet):
        await replica.start("after_intent")
        assert await replica.wait() == 1
        assert not fleet.process_ends
        assert [one.how for one in fleet.disturbances.since(0)] == ["crash point after_intent"]


async def test_a_process_that_was_frozen_is_disturbed_until_it_goes_on(tmp_path: Path) -> None:
    async with replica_of("exec sleep 60", tmp_path) as (replica, fleet):
        await replica.start()
        replica.stop()
        assert [one.ended for one in fleet.disturbances.since(0)] == [None]
        replica.cont()
        (frozen,) = fleet.disturbances.since(0)
        assert frozen.ended is not None
        (window,) = disturbance_windows([frozen])
        assert window.ends == {"fal-adapter"}
