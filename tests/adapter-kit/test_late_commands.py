"""Which attempts have to wait because their commands were read late, without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, cast

import pytest
from tests.builders import queued_attempt

from adapter_kit.attempt.model import Attempt
from adapter_kit.late_commands import CLEARED_S, LateCommands
from contracts.ids import attempt_id_for, job_id_for


class AllRead:
    async def heard_until(self, keys: Sequence[str], /) -> Mapping[str, float | None]:
        return dict.fromkeys(keys, float("inf"))


def late(name: str) -> Attempt:
    job_id = job_id_for("default", name)
    return queued_attempt(job_id, datetime.now(UTC), attempt_id=attempt_id_for(job_id, 1), read_late=True)


async def test_an_attempt_that_is_never_claimed_after_its_wait_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    passed_s = 0.0
    monkeypatch.setattr("adapter_kit.late_commands.monotonic", lambda: monotonic() + passed_s)
    commands, claimed, cancelled = LateCommands(AllRead(), cast("Any", None)), late("claimed"), late("cancelled")
    assert commands.holds(claimed)
    assert commands.holds(cancelled)
    assert await commands.look()
    assert not commands.holds(claimed)
    passed_s = CLEARED_S
    assert not await commands.look()
    assert commands.holds(cancelled), "it is looked up again"
