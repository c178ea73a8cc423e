"""Looking for a run in fal's list of past requests, when the answer to its submit was lost."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from adapter_kit.answers import no_answer
from adapter_kit.outcomes import FindOutcome, Found, NotFound, ProviderRef
from adapter_kit.provider import LostSubmission
from adapter_kit.wire import Exchange
from fal_adapter.reading import is_request_id

CLOCK_SKEW: Final = timedelta(seconds=30)
"""How far fal's clock may be behind ours."""
PAGE: Final = 100


def listing_query(lost: LostSubmission) -> dict[str, str]:
    """What to ask fal's platform API for."""
    return {
        "endpoint_id": lost.endpoint,
        "start": (lost.submitted_at - CLOCK_SKEW).isoformat(),
        "expand": "payloads",
        "limit": str(PAGE),
    }


def find_outcome(done: Exchange, lost: LostSubmission) -> FindOutcome:
    """The oldest listed request with the same input that belongs to no other attempt.

    Its absence proves nothing: fal does not say that it lists runs which have not ended.
    """
    if done.answer is None or not done.answer.ok:
        return no_answer(done)
    items = done.answer.document().get("items")
    if not isinstance(items, list):
        return no_answer(done)
    matching = [found for item in items if (found := _matching(item, lost)) is not None]
    return Found(ProviderRef(min(matching)[1], {})) if matching else NotFound(conclusive=False)


def _matching(item: JsonValue, lost: LostSubmission) -> tuple[datetime, str] | None:
    """When a listed request was sent, and its id, if it may be the lost one."""
    if not isinstance(item, dict) or item.get("json_input") != dict(lost.arguments):
        return None
    request_id, sent_at = item.get("request_id"), _time(item.get("sent_at"))
    if not is_request_id(request_id) or request_id in lost.taken or sent_at is None:
        return None
    return (sent_at, request_id) if sent_at >= lost.submitted_at - CLOCK_SKEW else None


def _time(text: JsonValue) -> datetime | None:
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return when if when and when.tzinfo else None
