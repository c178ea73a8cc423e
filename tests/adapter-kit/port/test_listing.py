"""Matching lost submits with the runs in a provider's listing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapter_kit.port import listing
from adapter_kit.port.listing import MAX_PAGES, Listed, Page, assign, may_be, of_about_the_same_time, time_in, walk
from adapter_kit.port.outcomes import FindOutcome, Found, NoAnswer, NotFound, ProviderRef
from adapter_kit.port.provider import LostSubmission
from contracts.ids import AttemptId

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOST = LostSubmission(AttemptId("a.1"), "owner/model", {"prompt": "x", "seed": 1.0}, NOW)
RUN = Listed(ProviderRef("run", {}), NOW, frozenset({"owner/model", "v1"}), {"seed": 1, "prompt": "x"})
REMOVED = replace(RUN, ref=ProviderRef("removed", {}), input=None)
ABSENT = NotFound(conclusive=True)
ELSEWHERE = NoAnswer("it continues elsewhere")
UNREAD = NoAnswer("an entry of the list cannot be read")


def off(minutes: str) -> NoAnswer:
    return NoAnswer(f"the provider's clock is {minutes} minutes from the database's, so its times cannot be compared")


def lost(name: str, minutes: float = 0, **changes: Any) -> LostSubmission:
    return replace(LOST, attempt_id=AttemptId(f"{name}.1"), submitted_at=NOW + timedelta(minutes=minutes), **changes)


def run(name: str, minutes: float = 0, **changes: Any) -> Listed:
    return replace(RUN, ref=ProviderRef(name, {}), made_at=NOW + timedelta(minutes=minutes), **changes)


def by_name(outcomes: dict[AttemptId, FindOutcome]) -> dict[str, str | FindOutcome]:
    names = ((one.partition(".")[0], outcome) for one, outcome in outcomes.items())
    return {name: outcome.ref.request_id if isinstance(outcome, Found) else outcome for name, outcome in names}


@pytest.mark.parametrize(
    ("candidate", "fits"),
    [
        (RUN, True),
        # The two clocks may differ.
        (run("early", -14), True),
        (run("late", 14), True),
        (run("too early", -16), False),
        (run("too late", 16), False),
        (run("other input", input={"prompt": "x"}), False),
        (run("other model", made_by=frozenset({"owner/other"})), False),
        (REMOVED, True),
        (replace(REMOVED, made_by=frozenset()), False),
        (replace(REMOVED, made_at=NOW + timedelta(minutes=16)), False),
    ],
)
def test_which_runs_may_belong_to_a_lost_submit(candidate: Listed, fits: bool) -> None:
    assert may_be(candidate, LOST) is fits


def test_an_endpoint_may_have_another_name_in_the_listing() -> None:
    assert may_be(RUN, replace(LOST, endpoint="other/model:v1"), lambda endpoint: endpoint.partition(":")[2])


@pytest.mark.parametrize(
    ("missed", "seen", "absence", "expected"),
    [
        ([lost("a")], [], ABSENT, {"a": ABSENT}),
        ([lost("a")], [], ELSEWHERE, {"a": ELSEWHERE}),
        ([lost("a")], [run("new"), run("old", -1)], ELSEWHERE, {"a": "old"}),
        # One run each, and each run once: the oldest run belongs to the first submit.
        ([lost("b", 2), lost("a", 1)], [run("2", 2), run("1", 1)], ABSENT, {"a": "1", "b": "2"}),
        ([lost("b", 2), lost("a", 1)], [run("1", 1)], ABSENT, {"a": "1", "b": ABSENT}),
        # Submits that are still waited for come first.
        ([lost("a", 1, late=True), lost("b", 2)], [run("1", 1)], ABSENT, {"a": ABSENT, "b": "1"}),
        ([lost("a"), lost("b", arguments={})], [run("1"), run("2", input={})], ABSENT, {"a": "1", "b": "2"}),
        # A run whose input was removed may belong to any of them.
        ([lost("a")], [REMOVED], ABSENT, {"a": NoAnswer}),
        ([lost("a", arguments={})], [REMOVED], ABSENT, {"a": NoAnswer}),
        ([lost("a")], [REMOVED], ELSEWHERE, {"a": ELSEWHERE}),
        ([lost("a"), lost("b")], [REMOVED, run("1")], ABSENT, {"a": "1", "b": NoAnswer}),
    ],
)
def test_each_lost_submit_is_assigned_at_most_one_run(
    missed: Any, seen: Any, absence: FindOutcome, expected: dict[str, Any]
) -> None:
    outcomes = by_name(assign(missed, seen, absence))
    shown = {name: type(each) if expected[name] is NoAnswer else each for name, each in outcomes.items()}
    assert shown == expected


def test_submits_close_in_time_share_a_walk() -> None:
    missed = [lost("d", 60), lost("a", 0), lost("c", 15.1), lost("b", 15)]
    groups = [[one.attempt_id[0] for one in group] for group in of_about_the_same_time(missed)]
    assert groups == [["a", "b"], ["c"], ["d"]]
    assert list(of_about_the_same_time([])) == []


def page(*runs: Listed, beyond: str | NoAnswer | None = None, minutes: float | None = 0, unread: bool = False) -> Page:
    """A page of a listing whose clock is ahead by so many minutes; None: whose answer has no date."""
    return Page(runs, beyond, None if minutes is None else NOW + timedelta(minutes=minutes), unread)


class Pages:
    """A listing in pages, which records the requests for them."""

    def __init__(self, *pages: Page | NoAnswer) -> None:
        self.pages, self.places = pages, list[str | None]()

    async def __call__(self, place: str | None) -> Page | NoAnswer:
        self.places.append(place)
        return self.pages[min(len(self.places), len(self.pages)) - 1]


async def test_one_walk_to_the_end_of_the_listing_serves_all_lost_submits() -> None:
    pages = Pages(page(run("2", 2), beyond="next"), page(run("taken"), run("1", 1)))
    missed = [lost("a", 1), lost("b", 2), lost("c", 3)]
    found = await walk(missed, frozenset({"taken"}), pages, NOW, conclusive=True)
    assert by_name(found) == {"a": "1", "b": "2", "c": ABSENT}
    assert pages.places == [None, "next"]


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([page()], ABSENT),
        ([page(beyond="on"), NoAnswer("502", 3)], NoAnswer("502", 3)),
        ([page(RUN, beyond="on"), NoAnswer("502", 3)], NoAnswer("502", 3)),
        ([page(unread=True)], UNREAD),
        ([page(beyond="on", unread=True), page()], UNREAD),
        ([page(RUN, beyond="on", unread=True), page()], "run"),
        ([page(beyond="on", unread=True), NoAnswer("502", 3)], NoAnswer("502", 3)),
        ([page(beyond=ELSEWHERE)], ELSEWHERE),
        ([page(RUN, beyond=ELSEWHERE)], "run"),
        ([page(beyond="on")], NoAnswer(f"the listing is longer than {MAX_PAGES} pages")),
        # The times in the listing are compared with those of submits, so the clocks have to agree.
        ([page(minutes=9)], ABSENT),
        ([page(minutes=-9)], ABSENT),
        ([page(minutes=None)], NoAnswer("the answer with the list has no date, so the clocks cannot be compared")),
        ([page(minutes=11)], off("+11")),
        ([page(minutes=-600)], off("-600")),
        ([page(beyond="on", minutes=-600), page()], off("-600")),
        ([page(RUN, minutes=600)], "run"),
    ],
)
async def test_the_outcome_of_a_walk_follows_from_all_its_pages(pages: list[Page | NoAnswer], expected: Any) -> None:
    assert by_name(await walk([LOST], frozenset(), Pages(*pages), NOW, conclusive=True)) == {"a": expected}


async def test_a_listing_that_does_not_answer_in_time_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "WALK_S", 0.01)

    async def never(place: str | None) -> Page:
        await asyncio.get_running_loop().create_future()
        raise AssertionError(place)

    found = await walk([LOST], frozenset(), never, NOW, conclusive=True)
    assert by_name(found) == {"a": NoAnswer("the listing took too long")}


@pytest.mark.parametrize("text", ["today", "2026-01-01T12:00:00", None, 7])
def test_a_time_without_an_offset_is_not_parsed(text: Any) -> None:
    assert time_in(text) is None
    assert time_in("2026-01-01T12:00:00Z") == NOW
