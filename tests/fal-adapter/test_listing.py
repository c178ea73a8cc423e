"""What fal's list of past requests says of a run whose submit got no answer."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapter_kit.outcomes import Found, NoAnswer, NotFound, ProviderRef
from adapter_kit.provider import LostSubmission
from adapter_kit.wire import Answer, Exchange
from contracts.ids import AttemptId
from fal_adapter.listing import Page, find_outcome, listing_query, next_cursor, read_page

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOST = LostSubmission(AttemptId("a.1"), "fal-ai/lyria2", {"prompt": "x", "seed": 1.0}, NOW, frozenset({"taken"}))
FITTING = {"json_input": {"seed": 1, "prompt": "x"}, "sent_at": NOW.isoformat()}


def at(minutes: float) -> str:
    return (NOW + timedelta(minutes=minutes)).isoformat()


def answer(body: Any) -> Answer:
    return Answer(200, {}, json.dumps(body).encode())


def page(*items: Any, **rest: Any) -> Page:
    read = read_page(Exchange(answer=answer({"items": items} | rest)), LOST)
    assert isinstance(read, Page)
    return read


def test_what_is_asked() -> None:
    first = {"endpoint_id": "fal-ai/lyria2", "start": at(-15), "expand": "payloads", "limit": "100"}
    assert listing_query(LOST) == first
    assert listing_query(LOST, "2") == first | {"cursor": "2"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"has_more": True, "next_cursor": "2"}, "2"),
        ({"next_cursor": "2"}, "2"),
        ({"has_more": False, "next_cursor": None}, None),
        ({"has_more": False, "next_cursor": "2"}, None),
        ({}, None),
        ({"has_more": True, "next_cursor": None}, NoAnswer),
        ({"has_more": True, "next_cursor": ""}, NoAnswer),
        ({"has_more": True, "next_cursor": 2}, NoAnswer),
        ({"has_more": "maybe"}, NoAnswer),
    ],
)
def test_where_the_list_goes_on(document: Any, expected: Any) -> None:
    cursor = next_cursor(answer(document))
    assert type(cursor) is expected if isinstance(expected, type) else cursor == expected


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        # The two clocks need not agree.
        ({"sent_at": at(-14)}, True),
        ({"sent_at": at(14)}, True),
        ({"sent_at": at(-16)}, False),
        ({"sent_at": at(16)}, False),
        ({"sent_at": "today"}, False),
        ({"sent_at": "2026-01-01T12:00:00"}, False),
        ({"request_id": "taken"}, False),
        ({"request_id": "a/b"}, False),
        ({"json_input": {"prompt": "x"}}, False),
    ],
)
def test_what_may_be_the_lost_one(changes: Any, fits: bool) -> None:
    found = page(FITTING | {"request_id": "one"} | changes)
    assert [request_id for _, request_id in found.fitting] == (["one"] if fits else [])


MORE: dict[str, Any] = {"has_more": True, "next_cursor": "2"}
NEW, OLD = FITTING | {"request_id": "new"}, FITTING | {"request_id": "old", "sent_at": at(-1)}


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([page()], NotFound(conclusive=False)),
        ([page(**MORE), page()], NotFound(conclusive=False)),
        ([page(**MORE)] * 10, NoAnswer("the listing is longer than 10 pages")),
        ([page(has_more=True)], NoAnswer("fal's list goes on and does not say where")),
        ([page(NEW, **MORE), page(OLD)], Found(ProviderRef("old", {}))),
        ([page(NEW, has_more=True)], Found(ProviderRef("new", {}))),
    ],
)
def test_what_the_pages_say_together(pages: list[Page], expected: Any) -> None:
    assert find_outcome(pages) == expected
