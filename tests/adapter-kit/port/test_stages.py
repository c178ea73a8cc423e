"""How many pages of a provider's listing are read for the runs in flight, and what is believed of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from adapter_kit.port import listing
from adapter_kit.port.listing import MAX_SLICES, RUNS_A_PAGE, SLICE_RUNS, SPARE_PAGES, Slice, StagePage, walk_stages
from adapter_kit.port.outcomes import NoAnswer
from adapter_kit.port.provider import ListedRun, Stage

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PAGE = 100


def created(n: int) -> datetime:
    return NOW + timedelta(seconds=n)


def runs_of(count: int) -> list[ListedRun]:
    return [ListedRun(f"run-{n}", created(n) + timedelta(seconds=0.5)) for n in range(count)]


@dataclass
class Listing:
    """A listing, newest first, that counts its pages."""

    created: dict[str, datetime]
    stage: Stage = "running"
    pages: list[tuple[Slice, str | None]] = field(default_factory=list)

    async def read(self, part: Slice, place: str | None) -> StagePage | NoAnswer:
        self.pages.append((part, place))
        at = [name for name, when in self.created.items() if part.after <= when < (part.before or when + PAGE * HOUR)]
        newest, offset = sorted(at, key=self.created.__getitem__, reverse=True), int(place or 0)
        more = str(offset + PAGE) if len(newest) > offset + PAGE else None
        return StagePage(dict.fromkeys(newest[offset : offset + PAGE], self.stage), more)


HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGES_PER_S", 1e6)


async def test_a_page_tells_of_a_hundred_runs() -> None:
    told = Listing({f"run-{n}": created(n) for n in range(1_000)})
    assert await walk_stages(runs_of(1_000), told.read) == dict.fromkeys(told.created, "running")
    assert len(told.pages) == 10


async def test_many_runs_are_read_in_slices_that_leave_no_gap() -> None:
    count = 3 * SLICE_RUNS
    told = Listing({f"run-{n}": created(n) for n in range(count)})
    assert await walk_stages(runs_of(count), told.read) == dict.fromkeys(told.created, "running")
    assert len({part for part, _ in told.pages}) == 3
    assert len(told.pages) <= count / PAGE + MAX_SLICES


async def test_a_few_old_runs_among_many_others_are_not_searched_for_on_all_pages() -> None:
    told = Listing({f"other-{n}": created(n) for n in range(10_000)})
    assert await walk_stages(runs_of(50), told.read) == {}
    assert len(told.pages) == SPARE_PAGES + 50 // RUNS_A_PAGE


async def test_no_page_is_read_for_no_run() -> None:
    told = Listing({})
    assert await walk_stages([], told.read) == {}
    assert len(told.pages) <= 1


REPEATED = StagePage({"run-1": "running"}, "again")
OTHERS = StagePage({"run-1": "ended", "not ours": "running"}, None)


@pytest.mark.parametrize(
    ("answer", "stages", "pages"),
    [
        (NoAnswer("HTTP 500"), {}, 1),
        (REPEATED, {"run-1": "running"}, 2),
        (OTHERS, {"run-1": "ended"}, 1),
        (StagePage({}, "again"), {}, 1),
    ],
    ids=["fails", "repeats a page for ever", "names runs of others", "is empty, and has more pages"],
)
async def test_a_hostile_listing_is_bounded(answer: StagePage | NoAnswer, stages: dict[str, Stage], pages: int) -> None:
    read: list[str | None] = []

    async def same(_part: Slice, place: str | None) -> StagePage | NoAnswer:
        read.append(place)
        return answer

    assert await walk_stages(runs_of(1_000), same) == stages
    assert len(read) == pages


async def test_a_listing_that_invents_runs_for_ever_is_read_to_the_limit_of_pages() -> None:
    read: list[str | None] = []

    async def inventive(_part: Slice, place: str | None) -> StagePage:
        read.append(place)
        return StagePage({f"invented-{len(read)}": "running"}, "on")

    assert await walk_stages(runs_of(1_000), inventive) == {}
    assert len(read) == SPARE_PAGES + 1_000 // RUNS_A_PAGE


async def test_what_a_slow_listing_told_in_time_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGES_PER_S", 0.01)
    monkeypatch.setattr(listing, "WALK_S", 0.2)
    told = Listing({f"run-{n}": created(n) for n in range(300)})
    assert len(await walk_stages(runs_of(300), told.read)) == PAGE
