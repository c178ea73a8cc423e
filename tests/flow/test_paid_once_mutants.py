"""The model of `test_paid_once` detects a product that breaks one of its rules: each mutant here breaks one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from tests.flow.test_paid_once import BEGIN, DEADLINE_S, RESULTS_KEPT_S, Anomaly, Conditions, World, tell

from adapter_kit.attempt import ambiguous, collecting
from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.states import CancelReason, LostSubmit
from contracts.generation import LostOutputPolicy, Provider
from orchestrator.decisions import after_attempt

Break = Callable[[pytest.MonkeyPatch], None]
proven_absent_at, new_window = ambiguous.proven_absent_at, collecting.new_window


def pays_again_against_the_policy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(after_attempt, "LOST_OUTPUT", frozenset())


def gives_up_early_against_the_policy(patch: pytest.MonkeyPatch) -> None:
    def window(attempt: Attempt, reason: CancelReason | None, now: datetime) -> datetime:
        return new_window(replace(attempt, lost_output_policy="retry_elsewhere"), reason, now)

    patch.setattr(collecting, "new_window", window)


def fetches_for_half_the_time(patch: pytest.MonkeyPatch) -> None:
    def window(attempt: Attempt, reason: CancelReason | None, now: datetime) -> datetime:
        return now + (new_window(attempt, reason, now) - now) / 2

    patch.setattr(collecting, "new_window", window)


def takes_every_listing_for_complete(patch: pytest.MonkeyPatch) -> None:
    def absent_at(attempt: Attempt, lost: LostSubmit, *, conclusive: bool) -> datetime:
        return proven_absent_at(attempt, lost, conclusive=True)

    patch.setattr(ambiguous, "proven_absent_at", absent_at)


def forgets_that_a_post_may_be_on_its_way(patch: pytest.MonkeyPatch) -> None:
    def absent_at(attempt: Attempt, lost: LostSubmit, *, conclusive: bool) -> datetime:
        at_once = replace(lost, submit_started_at=lost.submit_started_at - timedelta(hours=1))
        return proven_absent_at(attempt, at_once, conclusive=conclusive)

    patch.setattr(ambiguous, "proven_absent_at", absent_at)


def takes_a_listing_to_be_up_to_date(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ambiguous, "CONCLUSIVE_AFTER_S", 0.0)


@dataclass(frozen=True)
class Case:
    """What breaks, a story in which that costs money, and what the model says to it."""

    break_: Break
    said: str
    post: Conditions = field(default_factory=Conditions)
    first: Provider = "fal"
    policy: LostOutputPolicy = "retry_elsewhere"
    lasting: Anomaly = "none"
    results_kept_s: float = RESULTS_KEPT_S[1]

    def tell(self) -> None:
        second: Provider = "replicate" if self.first == "fal" else "fal"
        request = {
            "deadline": BEGIN + timedelta(seconds=DEADLINE_S),
            "lost_output_policy": self.policy,
            "order": (self.first, second),
        }
        world = World(lasting=self.lasting, results_kept_s=self.results_kept_s)
        tell(world, request, [("work", 0, self.post)] * 3)
        assert world.runs, "the story has no run"


AGAINST_POLICY, TOO_EARLY, UNPROVEN = "against the request's policy", "the run is healthy", "there is a run, or will be"
CASES = (
    Case(pays_again_against_the_policy, AGAINST_POLICY, policy="fail", lasting="file_lost", results_kept_s=60),
    Case(gives_up_early_against_the_policy, TOO_EARLY, policy="fail", lasting="file_lost"),
    Case(fetches_for_half_the_time, TOO_EARLY, lasting="file_lost"),
    Case(fetches_for_half_the_time, TOO_EARLY, lasting="missing"),
    Case(fetches_for_half_the_time, TOO_EARLY, lasting="pending"),
    Case(takes_every_listing_for_complete, UNPROVEN, Conditions(post="answer_lost", lasts_s=180)),
    Case(
        forgets_that_a_post_may_be_on_its_way,
        UNPROVEN,
        Conditions(post="answer_lost", arrives_after_s=30),
        first="replicate",
    ),
    Case(takes_a_listing_to_be_up_to_date, UNPROVEN, Conditions(post="unclear_made", lagging=True), first="replicate"),
)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.break_.__name__}-{case.lasting}")


@each_case
def test_the_model_detects_a_product_that(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.break_(monkeypatch)
    with pytest.raises(AssertionError, match=case.said):
        case.tell()


@each_case
def test_the_product_pays_once_where_one_would_not_that(case: Case) -> None:
    case.tell()
