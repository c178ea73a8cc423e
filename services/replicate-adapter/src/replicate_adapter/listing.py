"""Looking for a run in Replicate's list of predictions, when the answer to its create was lost. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode, urlsplit

from pydantic import JsonValue

from adapter_kit.answers import no_answer
from adapter_kit.outcomes import FindOutcome, Found, NoAnswer, NotFound, ProviderRef
from adapter_kit.provider import LostSubmission
from adapter_kit.wire import Answer, Exchange
from replicate_adapter.reading import is_prediction_id, ref_in

CLOCK_SKEW: Final = timedelta(minutes=15)
"""How far Replicate's clock may be from ours, either way, with the time that the create itself took.

So wide a window also holds other attempts' runs of the same input. That is safe as long as `taken` names every one of
them in it: then each run goes to one attempt, and runs of the same input may stand for each other.
"""
MAX_PAGES: Final = 50
"""Pages of a hundred: with more runs than this within the window, absence proves nothing, and lost submits are held."""

_LIST: Final = "/v1/predictions"


@dataclass(frozen=True, slots=True)
class Page:
    """What one page of the list says of the lost run."""

    fitting: tuple[tuple[datetime, ProviderRef], ...]
    """The predictions that may be it, each with the time it was made."""
    removed: bool
    """One of them may be it, but Replicate has removed its input, as it does after an hour."""
    beyond: str | NoAnswer | None
    """Where the list goes on; None: it ends here; NoAnswer: it goes on where it cannot be followed."""


def first_page(lost: LostSubmission) -> str:
    """Where the list begins: a path, for the SDK's cursor."""
    window = {"created_after": lost.submitted_at - CLOCK_SKEW, "created_before": lost.submitted_at + CLOCK_SKEW}
    return f"{_LIST}?" + urlencode({name: when.isoformat() for name, when in window.items()})


def next_page(answer: Answer) -> str | NoAnswer | None:
    """Where the list goes on, as `Page.beyond` says.

    Of the URL only the query is taken, and asked of the list we know: so the token stays with its host, and a slash or
    a proxy's prefix about the path makes no difference.
    """
    url = answer.document().get("next", "")
    if url is None:
        return None
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if parts is None or not parts.query or not parts.path.rstrip("/").endswith(_LIST):
        return NoAnswer("the list of predictions goes on where it cannot be followed")
    return f"{_LIST}?{parts.query}"


def read_page(done: Exchange, lost: LostSubmission) -> Page | NoAnswer:
    """One page of the list; NoAnswer where the answer is none."""
    results = done.answer.document().get("results") if done.answer is not None and done.answer.ok else None
    if done.answer is None or not isinstance(results, list):
        return no_answer(done)
    fitting: list[tuple[datetime, ProviderRef]] = []
    removed = False
    for item in results:
        if not isinstance(item, dict) or (made := _possible(item, lost)) is None:
            continue
        if item.get("input") == dict(lost.arguments):
            fitting.append(made)
        removed |= item.get("data_removed") is True
    return Page(tuple(fitting), removed, next_page(done.answer))


def find_outcome(pages: Sequence[Page]) -> FindOutcome:
    """What the pages asked for, one at least, say together; only a list read to its end can be proof of absence."""
    fitting = [made for page in pages for made in page.fitting]
    if fitting:
        return Found(min(fitting, key=lambda made: made[0])[1])
    beyond = pages[-1].beyond
    if beyond is not None:
        return beyond if isinstance(beyond, NoAnswer) else NoAnswer(f"the listing is longer than {len(pages)} pages")
    if any(page.removed for page in pages):
        return NoAnswer("Replicate has removed the input of a prediction that may be the lost one")
    return NotFound(conclusive=True)


def _possible(item: dict[str, JsonValue], lost: LostSubmission) -> tuple[datetime, ProviderRef] | None:
    """When a prediction was made, and its names, if by all but its input it may be the lost one."""
    model, _, version = lost.endpoint.partition(":")
    same_model = item.get("version") == version if version else item.get("model") == model
    name, created_at, ref = item.get("id"), _time(item.get("created_at")), ref_in(item)
    if not same_model or not is_prediction_id(name) or name in lost.taken or created_at is None or ref is None:
        return None
    return (created_at, ref) if abs(created_at - lost.submitted_at) <= CLOCK_SKEW else None


def _time(text: JsonValue) -> datetime | None:
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return when if when and when.tzinfo else None
