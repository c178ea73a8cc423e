"""The pause between two polls."""

from __future__ import annotations

import asyncio

import pytest

from chassis.delivery.polling import ENOUGH, GATHER_S, MANY, Gathering


@pytest.mark.parametrize(
    ("records", "limit", "pauses"),
    [
        (0, 1000, []),
        (MANY - 1, 1000, []),
        (MANY, 1000, [GATHER_S]),
        (ENOUGH - 1, 1000, [GATHER_S]),
        (ENOUGH, 1000, []),
        (MANY, MANY, []),
        (MANY, MANY + 1, [GATHER_S]),
    ],
)
async def test_records_gather_while_several_jobs_go_on_and_nothing_waits(
    monkeypatch: pytest.MonkeyPatch, records: int, limit: int, pauses: list[float]
) -> None:
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    gathering = Gathering()
    await gathering.pause()
    assert found == []
    gathering.note(records, limit)
    await gathering.pause()
    assert found == pauses
