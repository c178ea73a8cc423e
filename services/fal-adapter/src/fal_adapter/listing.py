"""Reading fal's list of past requests, page by page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from adapter_kit.http.answer import Answer
from adapter_kit.http.responses import no_answer
from adapter_kit.http.transport import Exchange
from adapter_kit.port.listing import Listed, Page, time_in, window
from adapter_kit.port.outcomes import NoAnswer, ProviderRef
from adapter_kit.port.provider import LostSubmission
from fal_adapter.reading import is_request_id

PAGE: Final = 100


def listing_query(endpoint: str, lost: Sequence[LostSubmission], cursor: str | None = None) -> dict[str, str]:
    """The query for fal's platform API.

    It has no `end`: fal does not document that it refers to the submit time, and a run that ends late must be found.
    """
    start, _ = window(lost)
    query = {"endpoint_id": endpoint, "start": start.isoformat(), "expand": "payloads", "limit": str(PAGE)}
    return query if cursor is None else query | {"cursor": cursor}


def next_cursor(answer: Answer) -> str | NoAnswer | None:
    """The cursor of the next page, with the meaning of `Page.beyond`."""
    document = answer.document()
    cursor, more = document.get("next_cursor"), document.get("has_more")
    if more is False or (more is None and cursor is None):
        return None
    return cursor if isinstance(cursor, str) and cursor else NoAnswer("fal's list has more pages and no valid cursor")


def read_page(done: Exchange, endpoint: str) -> Page | NoAnswer:
    """One page of the list of an endpoint's requests; NoAnswer if the answer is not such a page."""
    items = done.answer.document().get("items") if done.answer is not None and done.answer.ok else None
    if done.answer is None or not isinstance(items, list):
        return no_answer(done)
    if not done.answer.complete:
        # A run that is missing from a truncated list may still exist.
        return NoAnswer("fal's list is too large to be read whole")
    runs = tuple(run for item in items if (run := _listed(item, endpoint)) is not None)
    return Page(runs, next_cursor(done.answer), done.answer.date, unread=len(runs) < len(items))


def _listed(item: JsonValue, endpoint: str) -> Listed | None:
    if not isinstance(item, dict):
        return None
    request_id, sent_at = item.get("request_id"), time_in(item.get("sent_at"))
    if not is_request_id(request_id) or sent_at is None:
        return None
    return Listed(ProviderRef(request_id, {}), sent_at, frozenset({endpoint}), item.get("json_input"))
