"""Looking for a run in fal's list of past requests, when the answer to its submit was lost. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from adapter_kit.answers import no_answer
from adapter_kit.outcomes import FindOutcome, Found, NoAnswer, NotFound, ProviderRef
from adapter_kit.provider import LostSubmission
from adapter_kit.wire import Answer, Exchange
from fal_adapter.reading import is_request_id

CLOCK_SKEW: Final = timedelta(minutes=15)
"""How far fal's clock may be from ours, either way, with the time that the submit itself took.

So wide a window also holds other attempts' runs of the same input. That is safe as long as `taken` names every one of
them in it: then each run goes to one attempt, and runs of the same input may stand for each other.
"""
PAGE: Final = 100
MAX_PAGES: Final = 10


@dataclass(frozen=True, slots=True)
class Page:
    """What one page of the list says of the lost run."""

    fitting: tuple[tuple[datetime, str], ...]
    """When the requests that may be it were sent, and their ids."""
    beyond: str | NoAnswer | None
    """The cursor with which the list goes on; None: it ends here; NoAnswer: it goes on, and does not say where."""


def listing_query(lost: LostSubmission, cursor: str | None = None) -> dict[str, str]:
    """What to ask fal's platform API for.

    There is no `end`: fal does not say that it goes by the time of sending, and what ends late must not be missed.
    """
    query = {
        "endpoint_id": lost.endpoint,
        "start": (lost.submitted_at - CLOCK_SKEW).isoformat(),
        "expand": "payloads",
        "limit": str(PAGE),
    }
    return query if cursor is None else query | {"cursor": cursor}


def next_cursor(answer: Answer) -> str | NoAnswer | None:
    """Where the list goes on, as `Page.beyond` says."""
    document = answer.document()
    cursor, more = document.get("next_cursor"), document.get("has_more")
    if more is False or (more is None and cursor is None):
        return None
    return cursor if isinstance(cursor, str) and cursor else NoAnswer("fal's list goes on and does not say where")


def read_page(done: Exchange, lost: LostSubmission) -> Page | NoAnswer:
    """One page of the list; NoAnswer where the answer is none."""
    items = done.answer.document().get("items") if done.answer is not None and done.answer.ok else None
    if done.answer is None or not isinstance(items, list):
        return no_answer(done)
    fitting = tuple(found for item in items if (found := _matching(item, lost)) is not None)
    return Page(fitting, next_cursor(done.answer))


def find_outcome(pages: Sequence[Page]) -> FindOutcome:
    """The oldest request, on the pages asked for, with the same input that belongs to no other attempt.

    Its absence proves nothing: fal does not say that it lists runs which have not ended.
    """
    fitting = [found for page in pages for found in page.fitting]
    if fitting:
        return Found(ProviderRef(min(fitting)[1], {}))
    beyond = pages[-1].beyond
    if beyond is not None:
        return beyond if isinstance(beyond, NoAnswer) else NoAnswer(f"the listing is longer than {len(pages)} pages")
    return NotFound(conclusive=False)


def _matching(item: JsonValue, lost: LostSubmission) -> tuple[datetime, str] | None:
    """When a listed request was sent, and its id, if it may be the lost one."""
    if not isinstance(item, dict) or item.get("json_input") != dict(lost.arguments):
        return None
    request_id, sent_at = item.get("request_id"), _time(item.get("sent_at"))
    if not is_request_id(request_id) or request_id in lost.taken or sent_at is None:
        return None
    return (sent_at, request_id) if abs(sent_at - lost.submitted_at) <= CLOCK_SKEW else None


def _time(text: JsonValue) -> datetime | None:
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return when if when and when.tzinfo else None
