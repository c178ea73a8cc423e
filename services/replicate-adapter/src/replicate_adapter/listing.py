"""Looking for a run in Replicate's list of predictions, when the answer to its create was lost."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode, urlsplit

from pydantic import JsonValue

from adapter_kit.outcomes import ProviderRef
from adapter_kit.provider import LostSubmission
from adapter_kit.wire import Answer
from replicate_adapter.reading import is_prediction_id, ref_in

CLOCK_SKEW: Final = timedelta(minutes=2)
"""How far Replicate's clock may be behind ours."""
MAX_PAGES: Final = 10


def first_page(lost: LostSubmission) -> str:
    """Where the list begins: a path, for the SDK's cursor."""
    return "/v1/predictions?" + urlencode({"created_after": (lost.submitted_at - CLOCK_SKEW).isoformat()})


def next_page(answer: Answer) -> str | None:
    """Where the list goes on: only ever a path, so that the token stays with the host we know."""
    url = answer.document().get("next")
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return f"{parts.path}?{parts.query}" if parts.path == "/v1/predictions" else None


def candidates(answer: Answer, lost: LostSubmission) -> Iterable[tuple[datetime, ProviderRef]]:
    """The predictions of one page that may be the lost one, each with the time it was made."""
    results = answer.document().get("results")
    for item in results if isinstance(results, list) else []:
        if isinstance(item, dict) and _is_same(item, lost):
            created_at, ref = _time(item.get("created_at")), ref_in(item)
            if ref and created_at and created_at >= lost.submitted_at - CLOCK_SKEW:
                yield created_at, ref


def _is_same(item: dict[str, JsonValue], lost: LostSubmission) -> bool:
    model, _, version = lost.endpoint.partition(":")
    same_model = item.get("version") == version if version else item.get("model") == model
    name = item.get("id")
    return (
        same_model and item.get("input") == dict(lost.arguments) and is_prediction_id(name) and name not in lost.taken
    )


def _time(text: JsonValue) -> datetime | None:
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return when if when and when.tzinfo else None
