"""Until when a listing may take the place of a run's status request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.builders import changed, queued_attempt

from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.running import LONGEST_UNCHECKED_S, unchecked_until
from contracts.ids import job_id_for

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = NOW + timedelta(seconds=5)


def attempt(deadline_s: float = 7_200, start_s: float = 3_600, run_s: float = 3_600, **changes: Any) -> Attempt:
    queued = queued_attempt(
        job_id_for("default", "run"),
        NOW,
        deadline_at=NOW + timedelta(seconds=deadline_s),
        start_within_s=start_s,
        run_within_s=run_s,
    )
    return changed(queued, **{"state": "running", "accepted_at": NOW, "next_action_at": SOON} | changes)


def seconds(of: Attempt, at: datetime = NOW) -> float | None:
    until = unchecked_until(of, at)
    return None if until is None else (until - at).total_seconds()


def test_it_is_bounded_for_any_run() -> None:
    for started_at in (None, NOW):
        left_s = seconds(attempt(started_at=started_at))
        assert left_s is not None
        assert 0.75 * LONGEST_UNCHECKED_S <= left_s <= LONGEST_UNCHECKED_S


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (attempt(started_at=NOW, deadline_s=60), 60),
        (attempt(started_at=NOW, run_s=90), 90),
        # It is checked before its start deadline, at which it would be cancelled unasked.
        (attempt(start_s=60), 30),
        (attempt(start_s=600, deadline_s=20), 20),
    ],
)
def test_the_deadlines_of_an_attempt_are_kept(of: Attempt, expected: float) -> None:
    assert seconds(of) == expected


@pytest.mark.parametrize(
    "of",
    [
        attempt(state="cancelling"),
        attempt(state="collecting"),
        attempt(state="ambiguous"),
        attempt(tries=1),
        attempt(fetch_by=SOON),
        attempt(next_action_at=NOW),
    ],
    ids=["cancelling", "collecting", "ambiguous", "request failed", "run reported as unknown", "due now"],
)
def test_a_listing_has_no_say_about_any_other_attempt(of: Attempt) -> None:
    assert unchecked_until(of, NOW) is None
