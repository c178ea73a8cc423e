"""Property: of lost submits with the same input no more count as never accepted than were, whatever the searches show.

A listing tells the runs apart by nothing but their number. Hypothesis draws when each submit is made and lost, whether
and when there is a run, and which searches share a pass; the real `step`, `assign` and `of_absent` decide.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import changed, lost_of, queued_attempt

from adapter_kit import twins
from adapter_kit.attempt.actions import Search
from adapter_kit.attempt.inputs import Due, Searched
from adapter_kit.attempt.machine import step
from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.states import Ambiguous
from adapter_kit.port.listing import Listed, assign
from adapter_kit.port.outcomes import FindOutcome, Found, NoAnswer, NotFound, ProviderRef
from adapter_kit.port.provider import LostSubmission
from contracts.failures import FailureKind
from contracts.ids import AttemptId, job_id_for

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
POST_S = 37.5
"""How long after its intent a POST may arrive at the latest."""
LAG_S = 10.0
"""How long after its arrival a run is in a complete listing at the latest."""
RUN_S = 180.0
"""How long a run takes at the latest."""


@dataclass(frozen=True)
class Post:
    """A submit whose answer is lost. All times are in seconds."""

    sent: float
    lost_after: float
    arrives_after: float | None
    """None: it never arrives."""
    lasts: float
    lag: float

    def listed_at(self, *, conclusive: bool) -> float | None:
        if self.arrives_after is None:
            return None
        return self.sent + self.arrives_after + (self.lag if conclusive else self.lasts)


POSTS = st.lists(
    st.builds(
        Post,
        sent=st.sampled_from((0.0, 1.0, 20.0, 60.0, 100.0, 200.0)),
        lost_after=st.sampled_from((0.0, 5.0, POST_S)),
        arrives_after=st.sampled_from((0.0, 0.0, 12.0, POST_S, None)),
        lasts=st.sampled_from((5.0, 60.0, RUN_S)),
        lag=st.sampled_from((0.0, LAG_S)),
    ),
    min_size=2,
    max_size=3,
)
PASSES = st.lists(st.tuples(st.booleans(), st.sampled_from((0.0, 1.0, 20.0))), min_size=1, max_size=8)
"""Whether those that are due share a pass, and how long its outcomes take to be recorded; repeated."""


class World:
    """The ledger of one adapter, and its provider's listing."""

    def __init__(self, posts: list[Post], *, conclusive: bool) -> None:
        self.conclusive = conclusive
        self.now = BEGIN
        self.ledger: dict[AttemptId, Attempt] = {}
        self.runs: list[tuple[datetime, Listed]] = []
        for n, post in enumerate(posts):
            sent, lost = (BEGIN + timedelta(seconds=s) for s in (post.sent, post.sent + post.lost_after))
            queued = queued_attempt(job_id_for("default", str(n)), sent, submissions=1, submit_started_at=sent)
            times: dict[str, Any] = {
                "resolve_by": lost + timedelta(seconds=queued.grace_s),
                "listing_answered_at": lost,
                "next_action_at": lost + timedelta(seconds=1),
            }
            attempt = changed(queued, state="ambiguous", **times)
            self.ledger[attempt.attempt_id] = attempt
            if (listed := post.listed_at(conclusive=conclusive)) is not None:
                made_by = frozenset({attempt.endpoint})
                run = Listed(ProviderRef(f"run-{n}", {}), sent, made_by, dict(attempt.arguments))
                self.runs.append((BEGIN + timedelta(seconds=listed), run))

    def waiting(self) -> list[Attempt]:
        return [one for one in self.ledger.values() if isinstance(one.state, Ambiguous)]

    def search(self, attempts: list[Attempt], after_s: float) -> None:
        asked_at = self.now
        for one in attempts:
            due = step(one, Due(), asked_at)
            assert due.action == Search(asked_at)
            self.ledger[one.attempt_id] = due.attempt
        found = self.find([submission(one) for one in attempts])
        self.now += timedelta(seconds=after_s)
        for one in attempts:
            outcome = found[one.attempt_id]
            if isinstance(outcome, Found) and outcome.ref.request_id in self.taken():
                outcome = NoAnswer("the ledger lets no two attempts have one run")
            after = step(self.ledger[one.attempt_id], Searched(outcome, asked_at), self.now)
            self.ledger[one.attempt_id] = after.attempt

    def taken(self) -> set[str]:
        return {one.ref.request_id for one in self.ledger.values() if one.ref is not None}

    def find(self, lost: list[LostSubmission]) -> dict[AttemptId, FindOutcome]:
        taken = self.taken()
        seen = [run for at, run in self.runs if at <= self.now and run.ref.request_id not in taken]
        found = assign(lost, seen, NotFound(self.conclusive))
        absent = [one for one in lost if isinstance(found[one.attempt_id], NotFound)]
        rows = [one.state.run for one in self.ledger.values() if one.state.run is not None]
        times = [run.own_listed_by for run in rows if run.own_listed_by is not None]
        listed_by = {one.attempt_id: max(times) for one in absent if times}
        return found | twins.of_absent(absent, found, lost, listed_by)


def submission(one: Attempt) -> LostSubmission:
    return LostSubmission(one.attempt_id, one.endpoint, one.arguments, lost_of(one).submit_started_at)


def play(world: World, passes: list[tuple[bool, float]]) -> Counter[str]:
    """Search until all is decided. Returns how the attempts ended."""
    for n in range(500):
        waiting = world.waiting()
        if not waiting:
            break
        world.now = max(world.now, min(one.next_action_at or world.now for one in waiting))
        due = [one for one in waiting if one.next_action_at is not None and one.next_action_at <= world.now]
        together, after_s = passes[n % len(passes)]
        world.search(due if together else due[:1], after_s)
    assert not world.waiting(), "stuck"
    failures = [one.failure for one in world.ledger.values() if one.failure is not None]
    assert {each.kind for each in failures} <= {FailureKind.NEVER_ACCEPTED}
    return Counter("never accepted" if one.failure else "found" for one in world.ledger.values())


def check(world: World, passes: list[tuple[bool, float]]) -> None:
    ended = play(world, passes)
    assert ended["never accepted"] <= len(world.ledger) - len(world.runs), "a run is left that nobody has"


@given(POSTS, PASSES, st.booleans())
def test_no_more_lost_submits_count_as_never_accepted_than_were(
    posts: list[Post], passes: list[tuple[bool, float]], conclusive: bool
) -> None:
    check(World(posts, conclusive=conclusive), passes)


def crossed(*, conclusive: bool) -> World:
    """A search for the second submit is the first to see the run of the first."""
    lasts_s, gap_s = (RUN_S, 20.0) if conclusive else (RUN_S, 100.0)
    posts = [Post(0, 0, 0, lasts_s, LAG_S), Post(gap_s, 0, POST_S, lasts_s, LAG_S)]
    world = World(posts, conclusive=conclusive)
    shown_at = max(world.runs[0][0], BEGIN + timedelta(seconds=gap_s))
    for one, after_s in zip(world.waiting(), (1, 0), strict=True):
        due = shown_at + timedelta(seconds=after_s)
        world.ledger[one.attempt_id] = changed(one, listing_answered_at=shown_at, next_action_at=due)
    return world


@pytest.mark.parametrize("conclusive", [False, True])
def test_the_model_detects_a_search_that_does_not_mind_twins(conclusive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    check(crossed(conclusive=conclusive), [(False, 0.0)])
    monkeypatch.setattr(twins, "of_absent", lambda *_: {})
    with pytest.raises(AssertionError, match="a run is left"):
        check(crossed(conclusive=conclusive), [(False, 0.0)])
