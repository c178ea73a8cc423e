"""Reading Replicate's list of predictions, page by page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode, urlsplit

from pydantic import JsonValue

from adapter_kit.http.answer import Answer
from adapter_kit.http.responses import no_answer
from adapter_kit.http.transport import Exchange
from adapter_kit.port.listing import Listed, Page, Slice, StagePage, time_in, window
from adapter_kit.port.outcomes import NoAnswer
from adapter_kit.port.provider import LostSubmission, Stage
from replicate_adapter.reading import is_prediction_id, ref_in, stage_of

_LIST: Final = "/v1/predictions"
MOST_ITEMS: Final = 1_000
"""Limit of the predictions that are read of a page; Replicate's have a hundred."""


def first_page(lost: Sequence[LostSubmission]) -> str:
    """The first page of the list: a path, for the SDK's cursor."""
    after, before = window(lost)
    return f"{_LIST}?" + urlencode({"created_after": after.isoformat(), "created_before": before.isoformat()})


def first_stages(part: Slice) -> str:
    """The first page of a slice of the list: a path, for the SDK's cursor."""
    query = {"created_after": part.after.isoformat()}
    if part.before is not None:
        query["created_before"] = part.before.isoformat()
    return f"{_LIST}?" + urlencode(query)


def next_page(answer: Answer) -> str | NoAnswer | None:
    """The next page, with the meaning of `Page.beyond`.

    Only the query of the returned URL is used, with the known path of the list. So the token is sent to its own host
    only, and a trailing slash or a proxy's path prefix makes no difference.
    """
    url = answer.document().get("next", "")
    if url is None:
        return None
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if parts is None or not parts.query or not parts.path.rstrip("/").endswith(_LIST):
        return NoAnswer("the next page of the list of predictions is not valid")
    return f"{_LIST}?{parts.query}"


def read_page(done: Exchange) -> Page | NoAnswer:
    """One page of the list; NoAnswer if the answer is not such a page."""
    results = done.answer.document().get("results") if done.answer is not None and done.answer.ok else None
    if done.answer is None or not isinstance(results, list):
        return no_answer(done)
    if not done.answer.complete:
        # A run that is missing from a truncated list may still exist.
        return NoAnswer("the list of predictions is too large to be read whole")
    runs = tuple(run for item in results if (run := _listed(item)) is not None)
    return Page(runs, next_page(done.answer), done.answer.date, unread=len(runs) < len(results))


def read_stages(done: Exchange) -> StagePage | NoAnswer:
    """How the runs on one page of the list stand; NoAnswer if the answer is not such a page."""
    document = done.answer.document() if done.answer is not None and done.answer.ok else {}
    results = document.get("results")
    if done.answer is None or not isinstance(results, list):
        return no_answer(done)
    stages: dict[str, Stage] = {}
    for item in results[:MOST_ITEMS]:
        if (
            isinstance(item, dict)
            and is_prediction_id(name := item.get("id"))
            and (stage := stage_of(item)) is not None
        ):
            stages[name] = stage
    beyond = next_page(done.answer)
    return StagePage(stages, beyond if isinstance(beyond, str) else None)


def name_in_list(endpoint: str) -> str:
    """The endpoint as the list names it: the version if it has one, else the model."""
    model, _, version = endpoint.partition(":")
    return version or model


def _listed(item: JsonValue) -> Listed | None:
    if not isinstance(item, dict):
        return None
    ref, created_at = ref_in(item), time_in(item.get("created_at"))
    if ref is None or created_at is None:
        return None
    names = frozenset(name for name in (item.get("model"), item.get("version")) if isinstance(name, str))
    return Listed(ref, created_at, names, None if item.get("data_removed") is True else item.get("input"))
