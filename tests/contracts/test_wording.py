"""What the log of a job says of where it goes: the order with its reason, and what is skipped with its own."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contracts.failures import FailureKind
from contracts.ids import attempt_id_for, job_id_for, track_id_for
from contracts.jobs import JobAccepted, JobRerouted, PlannedRoute, SkippedRoute
from contracts.wording import in_dollars, in_words

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = job_id_for("default", "wording")


@pytest.mark.parametrize(
    ("usd", "words"),
    [(0, "$0.00"), (0.2, "$0.20"), (0.1 + 0.2, "$0.30"), (0.003, "$0.003"), (0.0125, "$0.0125"), (1234.5, "$1234.50")],
)
def test_money_as_people_write_it(usd: float, words: str) -> None:
    assert in_dollars(usd) == words


def skipped(model: str, reason: str) -> SkippedRoute:
    return SkippedRoute(provider="replicate", model=model, endpoint="test/model", reason=reason)


def accepted(because: str | None, *routes: SkippedRoute, nobody: bool = False) -> str:
    plan = () if nobody else (PlannedRoute(provider="fal", model="music/one", endpoint="test/model"),)
    return in_words(
        JobAccepted(
            job_id=JOB,
            occurred_at=NOW,
            track_id=track_id_for(JOB),
            tenant="default",
            version=1,
            status="queued",
            plan=plan,
            skipped=routes,
            because=because,
            deadline_at=NOW,
        )
    )


def test_a_plan_tells_its_reason_and_what_it_skipped() -> None:
    told = accepted("cheapest first: fal $0.03", skipped("music/one", "lyrics 812 > 600 characters"))
    assert told == "may go to fal; cheapest first: fal $0.03; skipped replicate: lyrics 812 > 600 characters"


def test_an_older_orchestrator_gave_no_reason() -> None:
    assert accepted(None) == "may go to fal"


def test_where_several_models_were_looked_at_each_skipped_one_is_named() -> None:
    both = skipped("music/other", "too short"), skipped("music/one", "too long")
    assert accepted(None, *both) == (
        "may go to fal; skipped replicate (music/other): too short; skipped replicate (music/one): too long"
    )
    assert accepted(None, skipped("music/one", "too long"), nobody=True) == (
        "may go to nobody; skipped replicate: too long"
    )


def test_a_reroute_tells_what_it_skipped_on_the_way() -> None:
    moved = JobRerouted(
        job_id=JOB,
        occurred_at=NOW,
        track_id=track_id_for(JOB),
        tenant="default",
        version=2,
        status="queued",
        from_attempt_id=attempt_id_for(JOB, 1),
        from_provider="fal",
        to_attempt_id=attempt_id_for(JOB, 2),
        to_provider="replicate",
        kind=FailureKind.MODEL_ERROR,
        message="it broke",
        skipped=(skipped("music/one", "$0.10 would pass the ceiling of $0.15 after $0.08 spent"),),
    )
    assert in_words(moved) == (
        "moved from fal to replicate: it broke; "
        "skipped replicate: $0.10 would pass the ceiling of $0.15 after $0.08 spent"
    )
