"""The price ceiling of a job: no attempt is ordered that could exceed it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import artifact, attempt_event, candidate, job_requested

from contracts.failures import FailureKind
from contracts.generation import AmbiguityPolicy
from contracts.ids import job_id_for
from contracts.messages.attempts import AttemptCancelled, AttemptEvent, AttemptFailed, AttemptSucceeded
from contracts.messages.commands import RunAttempt
from contracts.messages.jobs import JobAccepted, JobFailed, JobRerouted, SkippedRoute
from orchestrator.decisions.decide import decide
from orchestrator.decisions.decision import Decision
from orchestrator.decisions.inputs import Attempted, Due, Requested
from orchestrator.decisions.job import Candidate, Job
from orchestrator.decisions.remaining_candidates import over_ceiling, spent_usd

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOB = job_id_for("default", "ceiling")


@pytest.mark.parametrize(
    ("price", "ceiling", "spent", "reported"),
    [
        (0.10, None, 5.0, None),
        (None, None, 0.0, None),
        (0.10, 0.10, 0.0, None),
        (0.10, 0.15, 0.05, None),
        (0.1, 0.3, 0.2, None),
        (0.10, 0.15, 0.08, "$0.10 would pass the ceiling of $0.15 after $0.08 spent"),
        (0.20, 0.15, 0.0, "$0.20 would pass the ceiling of $0.15"),
        (0.003, 0.002, 0.0, "$0.003 would pass the ceiling of $0.002"),
        (None, 9.0, 0.0, "its price is not known, so it may pass the ceiling of $9.00"),
        (None, 9.0, 1.0, "its price is not known, so it may pass the ceiling of $9.00 after $1.00 spent"),
    ],
)
def test_the_reason_has_the_figures(
    price: float | None, ceiling: float | None, spent: float, reported: str | None
) -> None:
    assert over_ceiling(price, ceiling, spent) == reported


def begun(
    *candidates: Candidate,
    ceiling: float | None,
    deadline_s: float = 1800,
    policy: AmbiguityPolicy = "hold",
    skipped: tuple[SkippedRoute, ...] = (),
) -> Decision:
    deadline_at = NOW + timedelta(seconds=deadline_s)
    request = job_requested(JOB, NOW, deadline_at=deadline_at, ambiguity_policy=policy)
    return decide(None, Requested(request, candidates, skipped, None, NOW, "the listed order", ceiling), NOW)


def ended(
    job: Job | None, event: type[AttemptEvent] = AttemptFailed, *, n: int | None = None, **more: object
) -> Attempted:
    assert job is not None
    number = n or job.ordered
    failure = (
        {"kind": FailureKind.MODEL_ERROR, "message": "it broke", "accepted": True} if event is AttemptFailed else {}
    )
    route = {"provider": job.candidate.provider, "model": "music/test", "endpoint": job.candidate.endpoint}
    return Attempted(attempt_event(event, JOB, number, 3, NOW, **route | failure | more))


def failed(before: Decision, **more: object) -> Decision:
    return decide(before.job, ended(before.job, **more), NOW)  # type: ignore[arg-type]  # fields of an event by name


FAL, REPLICATE = candidate("fal", price_usd=0.08), candidate("replicate", price_usd=0.10)


def test_the_cost_of_a_failed_attempt_leaves_less_for_the_next() -> None:
    decision = failed(begun(FAL, REPLICATE, ceiling=0.15), cost_usd=0.08)
    (event,) = decision.messages
    assert isinstance(event, JobFailed)
    assert event.kind is FailureKind.NO_ROUTE
    assert event.message == (
        "no provider is left. fal (attempt 1): model_error: it broke; "
        "skipped replicate: $0.10 would pass the ceiling of $0.15 after $0.08 spent"
    )


def test_an_attempt_that_cost_nothing_leaves_all_for_the_next() -> None:
    decision = failed(begun(FAL, REPLICATE, ceiling=0.15), cost_usd=0.0)
    assert isinstance(decision.messages[0], RunAttempt)


@pytest.mark.parametrize(
    ("more", "goes_on"),
    [
        ({"accepted": True, "cost_usd": None}, False),
        ({"accepted": False, "cost_usd": None, "kind": FailureKind.UNREACHABLE}, True),
        ({"accepted": True, "cost_usd": 0.05}, True),
    ],
)
def test_an_unknown_cost_counts_with_the_full_price(more: dict[str, object], goes_on: bool) -> None:
    decision = failed(begun(FAL, REPLICATE, ceiling=0.15), **more)
    assert isinstance(decision.messages[0], RunAttempt) == goes_on


def test_a_resubmitted_lost_submit_counts_with_the_full_price() -> None:
    lost = {"kind": FailureKind.AMBIGUOUS_SUBMISSION, "accepted": False, "cost_usd": None}
    enough = failed(begun(FAL, REPLICATE, ceiling=0.18, policy="resubmit"), **lost)
    assert isinstance(enough.messages[0], RunAttempt)
    assert enough.job is not None
    assert spent_usd(enough.job) == pytest.approx(0.08)
    too_little = failed(begun(FAL, REPLICATE, ceiling=0.15, policy="resubmit"), **lost)
    assert isinstance(too_little.messages[0], JobFailed)


def test_a_skipped_route_is_reported_with_the_reroute() -> None:
    first, dear, cheap = (
        candidate("fal", price_usd=0.08),
        candidate("replicate", "dear", 0.10),
        candidate("replicate", "cheap", 0.05),
    )
    decision = failed(begun(first, dear, cheap, ceiling=0.15), cost_usd=0.08)
    command, rerouted = decision.messages
    assert isinstance(command, RunAttempt)
    assert command.endpoint == "cheap"
    assert isinstance(rerouted, JobRerouted)
    assert [(each.endpoint, each.reason) for each in rerouted.skipped] == [
        ("dear", "$0.10 would pass the ceiling of $0.15 after $0.08 spent")
    ]
    assert decision.job is not None
    assert decision.job.unreported == ()


def test_a_provider_that_exceeds_the_ceiling_is_not_retried() -> None:
    # fal is unavailable; the failed attempt at replicate costs so much that fal exceeds the ceiling.
    unavailable = {"kind": FailureKind.UNAVAILABLE, "accepted": False, "cost_usd": 0.0}
    decision = failed(failed(begun(FAL, REPLICATE, ceiling=0.15), **unavailable), cost_usd=0.10)
    (event,) = decision.messages
    assert isinstance(event, JobFailed)
    assert "skipped fal: $0.08 would pass the ceiling of $0.15 after $0.10 spent" in event.message


def test_a_late_cost_is_counted_when_the_waiting_ends() -> None:
    unavailable = {"kind": FailureKind.UNAVAILABLE, "accepted": False, "cost_usd": 0.0}
    refused = {"kind": FailureKind.NEVER_ACCEPTED, "accepted": False, "cost_usd": 0.0}
    waiting = failed(failed(begun(FAL, REPLICATE, ceiling=0.15), **refused), **unavailable)
    assert waiting.job is not None
    assert waiting.job.live_attempt is None
    late = ended(waiting.job, AttemptSucceeded, n=1, artifacts=(artifact(),), cost_usd=0.08, late=True)
    counted = decide(waiting.job, late, NOW)
    again = decide(counted.job, Due(), NOW + timedelta(seconds=30))
    (event,) = again.messages
    assert isinstance(event, JobFailed)
    assert event.kind is FailureKind.NO_ROUTE
    assert "skipped replicate: $0.10 would pass the ceiling of $0.15 after $0.08 spent" in event.message


def test_a_late_cancel_that_may_have_cost_something_counts_with_the_full_price() -> None:
    unavailable = {"kind": FailureKind.UNAVAILABLE, "accepted": False, "cost_usd": 0.0}
    refused = {"kind": FailureKind.NEVER_ACCEPTED, "accepted": False, "cost_usd": 0.0}
    waiting = failed(failed(begun(FAL, REPLICATE, ceiling=0.15), **refused), **unavailable)
    stopped = ended(waiting.job, AttemptCancelled, n=1, provider_ref="run", may_have_cost=True, late=True)
    (event,) = decide(decide(waiting.job, stopped, NOW).job, Due(), NOW + timedelta(seconds=30)).messages
    assert isinstance(event, JobFailed)
    assert "skipped replicate: $0.10 would pass the ceiling of $0.15 after $0.08 spent" in event.message
    assert event.cost_usd is None
    free = ended(waiting.job, AttemptCancelled, n=1, provider_ref="run", may_have_cost=False, late=True)
    again = decide(decide(waiting.job, free, NOW).job, Due(), NOW + timedelta(seconds=30))
    assert isinstance(again.messages[0], RunAttempt)


@dataclass(frozen=True)
class End:
    kind: FailureKind
    accepted: bool
    share: float
    """The true cost of the attempt, as a share of its price."""
    reported: bool
    """Whether the adapter reports the cost."""


ends = st.builds(
    End,
    kind=st.sampled_from(
        (
            FailureKind.MODEL_ERROR,
            FailureKind.OUTPUT_LOST,
            FailureKind.UNAVAILABLE,
            FailureKind.AMBIGUOUS_SUBMISSION,
            FailureKind.UNREACHABLE,
        )
    ),
    accepted=st.booleans(),
    share=st.floats(0, 1),
    reported=st.booleans(),
)
NEVER_SENT = (FailureKind.UNAVAILABLE, FailureKind.UNREACHABLE)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.floats(0.001, 3),
    st.lists(ends, max_size=40),
)
def test_no_order_exceeds_the_ceiling(prices: list[float], ceiling: float, story: list[End]) -> None:
    candidates = [candidate("fal" if n % 2 else "replicate", f"test/{n}", usd) for n, usd in enumerate(prices)]
    affordable = [each for each in candidates if over_ceiling(each.price_usd, ceiling) is None]
    decision = begun(*affordable, ceiling=ceiling, deadline_s=80_000, policy="resubmit")
    truly_spent, now = 0.0, NOW
    for end in [None, *story]:
        job = decision.job
        assert job is not None
        if end is not None and not job.final:
            if job.live_attempt is None:
                now = max(now, job.next_action_at or now)
                decision = decide(job, Due(), now)
            else:
                event, cost = event_of_end(job, end)
                truly_spent += cost
                decision = decide(job, event, now)
        for command in decision.messages:
            if isinstance(command, RunAttempt):
                assert command.price_usd is not None
                assert truly_spent + command.price_usd <= ceiling + 1e-5


def event_of_end(job: Job, end: End) -> tuple[Attempted, float]:
    """The event that ends the live attempt, and its true cost."""
    ambiguous = end.kind is FailureKind.AMBIGUOUS_SUBMISSION
    accepted = end.accepted and not ambiguous and end.kind not in NEVER_SENT
    cost = (job.candidate.price_usd or 0.0) * end.share if accepted or ambiguous else 0.0
    known = None if ambiguous or (accepted and not end.reported) else cost
    return ended(job, kind=end.kind, accepted=accepted, cost_usd=known), cost


def test_a_ceiling_that_leaves_no_route_ends_the_job_and_names_it() -> None:
    reason = over_ceiling(0.2, 0.15)
    assert reason is not None
    skipped = SkippedRoute(provider="fal", model="music/test", endpoint="test/model", reason=reason)
    (accepted, event) = begun(ceiling=None, skipped=(skipped,)).messages
    assert isinstance(accepted, JobAccepted)
    assert isinstance(event, JobFailed)
    assert event.kind is FailureKind.NO_ROUTE
    assert "$0.20 would pass the ceiling of $0.15" in event.message
