"""Search of a provider's listing for the runs of lost submits.

When a provider or a network fails, the responses to many submits are lost at once. One pass through the listing
therefore serves all lost submits, and assigns each run to at most one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Final

from pydantic import JsonValue

from adapter_kit.port.outcomes import FindOutcome, Found, NoAnswer, NotFound, ProviderRef
from adapter_kit.port.provider import ListedRun, LostSubmission, Stage
from contracts.ids import AttemptId

CLOCK_SKEW: Final = timedelta(minutes=15)
"""Largest accepted difference between a run's time in the listing and the time of its submit.

It covers the clock skew and the duration of the submit. A window this wide may contain runs of other attempts with the
same input. That is safe if `taken` contains all of them: each run is then assigned to one attempt, and runs of the same
input are interchangeable.
"""
CLOCKS_AGREE: Final = timedelta(minutes=10)
"""Largest difference of the two clocks with which absence may be proof.

The rest of `CLOCK_SKEW` is for the durations of the submit and of the search.
"""
MAX_PAGES: Final = 50
"""Page limit of a pass, at 100 runs a page. If the listing is longer, absence proves nothing."""
WALK_S: Final = 40.0
"""Time limit of a pass through the listing, in seconds."""
BEFORE_ANSWER: Final = timedelta(minutes=1)
"""How much earlier than the arrival of the answer to its submit a run may have been created."""
SLICE_RUNS: Final = 2_000
MAX_SLICES: Final = 4
RUNS_A_PAGE: Final = 25
"""A page for fewer of the wanted runs costs more than the status requests that it saves."""
SPARE_PAGES: Final = 2
PAGES_PER_S: Final = 20.0
"""Limit of the pages read for `walk_stages`: less than half of the requests per second that providers allow."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of the listing."""

    ref: ProviderRef
    made_at: datetime
    made_by: frozenset[str]
    """The names by which the listing identifies the endpoint."""
    input: JsonValue
    """None if the listing does not have it, so that it cannot be compared: deleted, or never stored."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the listing."""

    runs: tuple[Listed, ...]
    beyond: str | NoAnswer | None
    """The cursor of the next page; None on the last page; NoAnswer if the next page cannot be read."""
    read_at: datetime | None
    """When the provider answered, by its own clock; None if the answer does not say."""
    unread: bool = False
    """Whether the page has an entry that cannot be read, which may be any run."""


@dataclass(frozen=True, slots=True)
class StagePage:
    """A page of the listing, as far as it says how runs stand."""

    stages: Mapping[str, Stage]
    """By the ids of the runs."""
    beyond: str | None
    """The cursor of the next page; None if there is none that can be read."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the listing: the runs created from `after` until before `before`; None: until now."""

    after: datetime
    before: datetime | None


ReadStages = Callable[[Slice, str | None], Awaitable[StagePage | NoAnswer]]
"""Reads the page of a slice at a cursor, or its first page for None."""
ReadPage = Callable[[str | None], Awaitable[Page | NoAnswer]]
"""Reads the page at a cursor, or the first page for None."""


def of_about_the_same_time(lost: Sequence[LostSubmission]) -> Iterator[Sequence[LostSubmission]]:
    """The submits in groups of similar age, so that an old one does not widen the window of the others."""
    group: list[LostSubmission] = []
    for one in sorted(lost, key=lambda one: one.submitted_at):
        if group and one.submitted_at > group[0].submitted_at + CLOCK_SKEW:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def window(lost: Sequence[LostSubmission]) -> tuple[datetime, datetime]:
    """The earliest and the latest time, by the provider's clock, at which the runs of these submits were created."""
    times = [one.submitted_at for one in lost]
    return min(times) - CLOCK_SKEW, max(times) + CLOCK_SKEW


def time_in(text: JsonValue) -> datetime | None:
    """The time in an ISO 8601 text; None if the text is not a time, or has no UTC offset."""
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return when if when and when.tzinfo else None


async def walk(
    lost: Sequence[LostSubmission],
    taken: frozenset[str],
    read: ReadPage,
    asked_at: datetime,
    *,
    conclusive: bool,
    called: Callable[[str], str] = str,
) -> dict[AttemptId, FindOutcome]:
    """Read the listing, and return for each submit whether its run is in it.

    `taken`: the provider's ids of runs that belong to attempts. `asked_at`: now, by the clock of the submits.
    `conclusive`: the listing is complete, so that absence from all of its pages is proof. `called` maps an endpoint to
    its name in the listing.
    """
    try:
        async with asyncio.timeout(WALK_S):
            seen, absence = await _read_all(lost, taken, read, asked_at, called, NotFound(conclusive))
    except TimeoutError:
        return without_answer(lost, NoAnswer("the listing took too long"))
    if seen is None:
        return without_answer(lost, absence)
    return assign(lost, seen, absence, called)


def without_answer(lost: Sequence[LostSubmission], outcome: FindOutcome) -> dict[AttemptId, FindOutcome]:
    """The same outcome for each of the submits."""
    return {one.attempt_id: outcome for one in lost}


async def _read_all(
    lost: Sequence[LostSubmission],
    taken: frozenset[str],
    read: ReadPage,
    asked_at: datetime,
    called: Callable[[str], str],
    whole: NotFound,
) -> tuple[list[Listed] | None, FindOutcome]:
    """The runs that may be lost ones, and the outcome for a submit without one; None if a page could not be read."""
    seen: list[Listed] = []
    place: str | None = None
    absence: FindOutcome = whole
    for _ in range(MAX_PAGES):
        page = await read(place)
        if isinstance(page, NoAnswer):
            return None, page
        free = [run for run in page.runs if run.ref.request_id not in taken]
        seen += [run for run in free if any(may_be(run, one, called) for one in lost)]
        if page.unread:
            absence = NoAnswer("an entry of the list cannot be read")
        elif page.read_at is None or abs(page.read_at - asked_at) > CLOCKS_AGREE:
            absence = NoAnswer(_clocks(page.read_at, asked_at))
        if page.beyond is None:
            return seen, absence
        if isinstance(page.beyond, NoAnswer):
            return seen, page.beyond
        place = page.beyond
    return seen, NoAnswer(f"the listing is longer than {MAX_PAGES} pages")


def _clocks(read_at: datetime | None, asked_at: datetime) -> str:
    if read_at is None:
        return "the answer with the list has no date, so the clocks cannot be compared"
    minutes = (read_at - asked_at).total_seconds() / 60
    return f"the provider's clock is {minutes:+.0f} minutes from the database's, so its times cannot be compared"


def may_be(run: Listed, lost: LostSubmission, called: Callable[[str], str] = str) -> bool:
    """Whether a listed run may be the lost one, by endpoint, time and, if the listing has it, input."""
    return (
        called(lost.endpoint) in run.made_by
        and abs(run.made_at - lost.submitted_at) <= CLOCK_SKEW
        and (run.input is None or run.input == dict(lost.arguments))
    )


def assign(
    lost: Sequence[LostSubmission],
    seen: Sequence[Listed],
    absence: FindOutcome,
    called: Callable[[str], str] = str,
) -> dict[AttemptId, FindOutcome]:
    """Assign to each submit the oldest free run with its input. Submits whose jobs still wait for them come first."""
    free = sorted(seen, key=lambda run: run.made_at)
    outcomes: dict[AttemptId, FindOutcome] = {}
    for one in sorted(lost, key=lambda one: (one.late, one.submitted_at)):
        possible = [run for run in free if may_be(run, one, called)]
        same = next((run for run in possible if run.input == dict(one.arguments)), None)
        if same is not None:
            free.remove(same)
            outcomes[one.attempt_id] = Found(same.ref, conclusive=absence == NotFound(conclusive=True))
        elif possible and isinstance(absence, NotFound):
            outcomes[one.attempt_id] = NoAnswer("the listing lacks the input of a run that may be the lost one")
        else:
            outcomes[one.attempt_id] = absence
    return outcomes


async def walk_stages(runs: Sequence[ListedRun], read: ReadStages) -> dict[str, Stage]:
    """Read the listing, and return what it says of the runs, by their ids; as far as `WALK_S` seconds allow.

    It is read in slices at once, since each page has to be known before the next. A slice ends when all of the runs
    are known, with a page that cannot be read or says nothing new, and after `SPARE_PAGES` and a page for
    `RUNS_A_PAGE` of its runs.
    """
    missing, known = {run.request_id for run in runs}, dict[str, Stage]()
    paced = _paced(read)
    tasks = [_walk_slice(part, pages, paced, missing, known) for part, pages in _slices(runs)]
    with suppress(TimeoutError):
        async with asyncio.timeout(WALK_S):
            await asyncio.gather(*tasks)
    return known


def _slices(runs: Sequence[ListedRun]) -> Iterator[tuple[Slice, int]]:
    """Slices without gaps that have about as many of the runs each, with their numbers of pages."""
    times = sorted(run.accepted_at for run in runs)
    size = max(SLICE_RUNS, -(-len(times) // MAX_SLICES))
    starts = [times[0] - BEFORE_ANSWER, *times[size::size]] if times else []
    for after, before in zip_longest(starts, starts[1:]):
        yield Slice(after, before), SPARE_PAGES + min(size, len(times)) // RUNS_A_PAGE


def _paced(read: ReadStages) -> ReadStages:
    now = asyncio.get_running_loop().time
    free_at = now()

    async def paced(part: Slice, place: str | None) -> StagePage | NoAnswer:
        nonlocal free_at
        wait_s = max(0.0, free_at - now())
        free_at = max(free_at, now()) + 1 / PAGES_PER_S
        await asyncio.sleep(wait_s)
        return await read(part, place)

    return paced


async def _walk_slice(part: Slice, pages: int, read: ReadStages, missing: set[str], known: dict[str, Stage]) -> None:
    place: str | None = None
    seen: set[str] = set()
    for _ in range(pages):
        page = await read(part, place)
        if isinstance(page, NoAnswer) or page.stages.keys() <= seen:
            return
        seen |= page.stages.keys()
        found = {name: page.stages[name] for name in page.stages.keys() & missing}
        known |= found
        missing -= found.keys()
        place = page.beyond
        if place is None or not missing:
            return
