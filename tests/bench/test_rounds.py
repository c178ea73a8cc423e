"""What a run keeps if one of its measures fails."""

from __future__ import annotations

import asyncpg
import pytest
from bench.rounds import Results, left_out_if_it_fails


@pytest.mark.parametrize("error", [asyncpg.DiskFullError("no space"), OSError(28, "no space"), TimeoutError()])
def test_a_measure_that_fails_is_told_and_leaves_what_was_measured_before(error: Exception) -> None:
    def measure() -> None:
        raise error

    results, told = Results({}), list[str]()
    with left_out_if_it_fails("reads with many attempts stored", results, told.append):
        measure()
    assert results.skipped == told[1:]
    assert told[1].startswith("Reads with many attempts stored: not measured, ")
