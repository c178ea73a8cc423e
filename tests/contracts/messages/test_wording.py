"""The lines of a job's log: the order of providers with its reason, and the costs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.builders import artifact, attempt_event, attempt_outcome, job_fields

from contracts.failures import FailureKind
from contracts.ids import attempt_id_for, job_id_for
from contracts.messages.attempts import AttemptFailed, AttemptSucceeded
from contracts.messages.jobs import (
    JobAccepted,
    JobFailed,
    JobRerouted,
    JobStarted,
    JobSucceeded,
    PlannedRoute,
    SkippedRoute,
)
from contracts.messages.wording import describe, in_dollars

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = job_id_for("default", "wording")


@pytest.mark.parametrize(
    ("usd", "words"),
    [(0, "$0.00"), (0.2, "$0.20"), (0.1 + 0.2, "$0.30"), (0.003, "$0.003"), (0.0125, "$0.0125"), (1234.5, "$1234.50")],
)
def test_amounts_have_at_least_two_decimals(usd: float, words: str) -> None:
    assert in_dollars(usd) == words


def job(status: str) -> dict[str, Any]:
    return job_fields(JOB, 1, status, NOW)


def skipped(model: str, reason: str) -> SkippedRoute:
    return SkippedRoute(provider="replicate", model=model, endpoint="test/model", reason=reason)


def accepted(because: str | None, *routes: SkippedRoute, nobody: bool = False) -> str:
    plan = () if nobody else (PlannedRoute(provider="fal", model="music/one", endpoint="test/model"),)
    return describe(JobAccepted(**job("queued"), plan=plan, skipped=routes, because=because, deadline_at=NOW))


def test_a_plan_has_its_reason_and_the_skipped_routes() -> None:
    line = accepted("cheapest first: fal $0.03", skipped("music/one", "lyrics 812 > 600 characters"))
    assert line == "may go to fal; cheapest first: fal $0.03; skipped replicate: lyrics 812 > 600 characters"


def test_a_plan_of_an_older_orchestrator_has_no_reason() -> None:
    assert accepted(None) == "may go to fal"


def test_skipped_routes_of_several_models_are_named_with_the_model() -> None:
    both = skipped("music/other", "too short"), skipped("music/one", "too long")
    assert accepted(None, *both) == (
        "may go to fal; skipped replicate (music/other): too short; skipped replicate (music/one): too long"
    )
    assert accepted(None, skipped("music/one", "too long"), nobody=True) == (
        "may go to no provider; skipped replicate: too long"
    )


def test_a_reroute_has_the_skipped_routes() -> None:
    moved = JobRerouted(
        **job("queued"),
        from_attempt_id=attempt_id_for(JOB, 1),
        from_provider="fal",
        to_attempt_id=attempt_id_for(JOB, 2),
        to_provider="replicate",
        kind=FailureKind.MODEL_ERROR,
        message="it broke",
        skipped=(skipped("music/one", "$0.10 would pass the ceiling of $0.15 after $0.08 spent"),),
    )
    assert describe(moved) == (
        "moved from fal to replicate: it broke; "
        "skipped replicate: $0.10 would pass the ceiling of $0.15 after $0.08 spent"
    )


LOCKED = "User is locked. Reason: Exhausted balance."
CONTINUED = "the job had already gone on without it"


def failed(kind: FailureKind, message: str, *, accepted: bool, cost_usd: float | None, late: bool = False) -> str:
    failure = {"kind": kind, "message": message, "accepted": accepted, "cost_usd": cost_usd}
    return describe(attempt_event(AttemptFailed, JOB, 1, 3, NOW, late=late, **failure))


@pytest.mark.parametrize(
    ("kind", "accepted", "cost_usd", "money"),
    [
        (FailureKind.INSUFFICIENT_BALANCE, False, 0.0, "it cost nothing"),
        (FailureKind.NEVER_ACCEPTED, False, None, "it cost nothing"),
        (FailureKind.PROVIDER_ERROR, True, 0.0, "it cost nothing"),
        (FailureKind.OUTPUT_LOST, True, 0.2, "it cost $0.20 by the catalogue's price"),
        (FailureKind.RUN_TIMEOUT, True, None, "it may have cost something"),
        (FailureKind.AMBIGUOUS_SUBMISSION, False, None, "it is not known yet whether it cost anything"),
    ],
)
def test_the_line_of_a_failed_attempt_has_its_cost(
    kind: FailureKind, accepted: bool, cost_usd: float | None, money: str
) -> None:
    assert failed(kind, "it broke", accepted=accepted, cost_usd=cost_usd) == f"it broke; {money}"
    late = failed(kind, "it broke", accepted=accepted, cost_usd=cost_usd, late=True)
    assert late == f"known only now: it broke; {money}; {CONTINUED}"


def test_an_attempt_that_was_not_sent_has_no_cost_in_its_line() -> None:
    assert failed(FailureKind.UNAVAILABLE, "not asked", accepted=False, cost_usd=0.0) == "not asked"


def test_the_text_of_a_provider_is_unchanged_and_the_cost_follows_as_a_sentence() -> None:
    kind = FailureKind.INSUFFICIENT_BALANCE
    assert failed(kind, LOCKED, accepted=False, cost_usd=0.0) == f"{LOCKED} It cost nothing."
    late = failed(kind, LOCKED, accepted=False, cost_usd=0.0, late=True)
    assert late == f"known only now: {LOCKED} It cost nothing; {CONTINUED}."


def test_a_failure_without_a_text_of_the_provider_has_a_text() -> None:
    line = failed(FailureKind.CANCELLED_BY_PROVIDER, "", accepted=True, cost_usd=None)
    assert line == "The provider stopped the run on its own. It may have cost something."


def test_a_job_that_has_started_may_still_wait_at_its_provider() -> None:
    assert describe(JobStarted(**job("running"), attempt_id=attempt_id_for(JOB, 1), provider="fal")) == (
        "fal has taken it"
    )


@pytest.mark.parametrize(
    ("cost_usd", "money"),
    [(0.4, "; in all $0.40"), (None, "; what it cost in all is not known"), (0.0, "")],
)
def test_the_line_of_a_successful_job_has_the_total_cost(cost_usd: float | None, money: str) -> None:
    made = JobSucceeded(
        **job("succeeded"),
        attempt_id=attempt_id_for(JOB, 1),
        provider="fal",
        model="music/one",
        artifacts=(artifact(),),
        cost_usd=cost_usd,
    )
    assert describe(made) == f"made by fal with music/one{money}"


@pytest.mark.parametrize(
    ("cost_usd", "costs", "money"),
    [
        (0.4, (0.0, 0.4), "in all $0.40"),
        (0.2, (), "in all $0.20"),
        (0.0, (0.0, 0.0), "nothing was paid"),
        (None, (0.0, None), "it may have cost something"),
        (0.0, (0.0, None), "it may have cost something"),  # the last attempt has no known end and is not in the total
        (None, (0.2, None), "in all $0.20 at least"),
        (None, (), "nothing was paid"),
    ],
)
def test_the_line_of_a_failed_job_has_the_total_cost(
    cost_usd: float | None, costs: tuple[float | None, ...], money: str
) -> None:
    attempts = tuple(attempt_outcome(JOB, n, cost_usd=cost) for n, cost in enumerate(costs, 1))
    ended = {"kind": FailureKind.NO_ROUTE, "attempts": attempts, "cost_usd": cost_usd}
    assert describe(JobFailed(**job("failed"), message="fal: it broke", **ended)) == f"fal: it broke; {money}"


@pytest.mark.parametrize("late", [False, True])
def test_the_line_of_a_result_with_missing_files_says_so(late: bool) -> None:
    whole = attempt_event(AttemptSucceeded, JOB, 1, 4, NOW, artifacts=(artifact(),), late=late)
    missing = "1 of 2 outputs could not be had: output 2: 404"
    assert describe(whole.model_copy(update={"missing": missing})) == f"{describe(whole)}; {missing}"
    assert whole.missing is None
