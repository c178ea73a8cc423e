"""Looking for runs in a provider's listing, when the answers to their submits were lost.

Answers are lost by the hundred, when a provider falls over or a network does. One walk through the list therefore
serves every submit that is missed at the time, and gives each run to one of them at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from adapter_kit.port.outcomes import FindOutcome, Found, NoAnswer, NotFound, ProviderRef
from adapter_kit.port.provider import LostSubmission
from contracts.ids import AttemptId

CLOCK_SKEW: Final = timedelta(minutes=15)
"""How far a provider's clock may be from ours, either way, with the time that the submit itself took.

So wide a window also holds other attempts' runs of the same input. That is safe as long as `taken` names every one of
them in it: then each run goes to one attempt, and runs of the same input may stand for each other.
"""
MAX_PAGES: Final = 50
"""Pages of a hundred: with more runs than this within the window, absence proves nothing, and lost submits are held."""
WALK_S: Final = 40.0
"""How long a walk through the list may take, in seconds."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A run as the listing shows it."""

    ref: ProviderRef
    made_at: datetime
    made_by: frozenset[str]
    """What the listing calls the endpoint."""
    input: JsonValue
    input_removed: bool = False
    """The provider keeps inputs for a while only: it may have been any."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the listing."""

    runs: tuple[Listed, ...]
    beyond: str | NoAnswer | None
    """Where the list goes on; None: it ends here; NoAnswer: it goes on where it cannot be followed."""


ReadPage = Callable[[str | None], Awaitable[Page | NoAnswer]]
"""Reads the page at a place that another one named; at None, the first."""


def of_about_the_same_time(lost: Sequence[LostSubmission]) -> Iterator[Sequence[LostSubmission]]:
    """The submits in groups that share a window, so that an old one does not make the list too long for the others."""
    group: list[LostSubmission] = []
    for one in sorted(lost, key=lambda one: one.submitted_at):
        if group and one.submitted_at > group[0].submitted_at + CLOCK_SKEW:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def window(lost: Sequence[LostSubmission]) -> tuple[datetime, datetime]:
    """Between which times, by the provider's clock, the runs of these submits were made."""
    times = [one.submitted_at for one in lost]
    return min(times) - CLOCK_SKEW, max(times) + CLOCK_SKEW


def time_in(text: JsonValue) -> datetime | None:
    """The time that a listing gives; None where it is none, or without an offset."""
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return when if when and when.tzinfo else None


async def walk(
    lost: Sequence[LostSubmission],
    taken: frozenset[str],
    read: ReadPage,
    *,
    conclusive: bool,
    called: Callable[[str], str] = str,
) -> dict[AttemptId, FindOutcome]:
    """Read the list, and say of each submit whether its run is there.

    `taken` are the provider's ids of runs that have their attempts. `conclusive` is a list that shows every run at
    once, so that absence from the whole of it is proof. `called` tells what the list calls an endpoint.
    """
    try:
        async with asyncio.timeout(WALK_S):
            seen, absence = await _read_all(lost, taken, read, called, NotFound(conclusive))
    except TimeoutError:
        return without_answer(lost, NoAnswer("the listing took too long"))
    if seen is None:
        return without_answer(lost, absence)
    return assign(lost, seen, absence, called)


def without_answer(lost: Sequence[LostSubmission], outcome: FindOutcome) -> dict[AttemptId, FindOutcome]:
    """The same outcome for all of them."""
    return {one.attempt_id: outcome for one in lost}


async def _read_all(
    lost: Sequence[LostSubmission],
    taken: frozenset[str],
    read: ReadPage,
    called: Callable[[str], str],
    whole: NotFound,
) -> tuple[list[Listed] | None, FindOutcome]:
    """The runs that may be lost ones, and what it means not to be among them; None where a page could not be read."""
    seen: list[Listed] = []
    place: str | None = None
    for _ in range(MAX_PAGES):
        page = await read(place)
        if isinstance(page, NoAnswer):
            return None, page
        free = [run for run in page.runs if run.ref.request_id not in taken]
        seen += [run for run in free if any(may_be(run, one, called) for one in lost)]
        if page.beyond is None:
            return seen, whole
        if isinstance(page.beyond, NoAnswer):
            return seen, page.beyond
        place = page.beyond
    return seen, NoAnswer(f"the listing is longer than {MAX_PAGES} pages")


def may_be(run: Listed, lost: LostSubmission, called: Callable[[str], str] = str) -> bool:
    """Whether a listed run may be the lost one; if its input is gone, by all but that."""
    return (
        called(lost.endpoint) in run.made_by
        and abs(run.made_at - lost.submitted_at) <= CLOCK_SKEW
        and (run.input_removed or run.input == dict(lost.arguments))
    )


def assign(
    lost: Sequence[LostSubmission],
    seen: Sequence[Listed],
    absence: FindOutcome,
    called: Callable[[str], str] = str,
) -> dict[AttemptId, FindOutcome]:
    """Give each submit the oldest run of its input that no other has; those that are waited for choose first."""
    free = sorted(seen, key=lambda run: run.made_at)
    outcomes: dict[AttemptId, FindOutcome] = {}
    for one in sorted(lost, key=lambda one: (one.late, one.submitted_at)):
        possible = [run for run in free if may_be(run, one, called)]
        same = next((run for run in possible if run.input == dict(one.arguments)), None)
        if same is not None:
            free.remove(same)
            outcomes[one.attempt_id] = Found(same.ref)
        elif possible and isinstance(absence, NotFound):
            gone = "the provider has removed the input of a run that may be the lost one"
            outcomes[one.attempt_id] = NoAnswer(gone)
        else:
            outcomes[one.attempt_id] = absence
    return outcomes
