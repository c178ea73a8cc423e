"""The query for fal's list of past requests, and its answers."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapter_kit.http.answer import Answer
from adapter_kit.http.transport import Exchange
from adapter_kit.port.listing import Page
from adapter_kit.port.outcomes import NoAnswer
from adapter_kit.port.provider import LostSubmission
from contracts.ids import AttemptId
from fal_adapter.listing import listing_query, next_cursor, read_page

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LYRIA = "fal-ai/lyria2"
LOST = LostSubmission(AttemptId("a.1"), LYRIA, {"prompt": "x", "seed": 1.0}, NOW)
LATER = LostSubmission(AttemptId("b.1"), LYRIA, {"prompt": "y"}, NOW + timedelta(minutes=5))
ITEM = {"request_id": "one", "json_input": {"seed": 1, "prompt": "x"}, "sent_at": NOW.isoformat()}


def at(minutes: float) -> str:
    return (NOW + timedelta(minutes=minutes)).isoformat()


def answer(body: Any) -> Answer:
    return Answer(200, {"date": "Thu, 01 Jan 2026 12:00:00 GMT"}, json.dumps(body).encode())


def page(*items: Any, **rest: Any) -> Page:
    read = read_page(Exchange(answer=answer({"items": items} | rest)), LYRIA)
    assert isinstance(read, Page)
    return read


def test_the_query_covers_all_lost_submits() -> None:
    first = {"endpoint_id": LYRIA, "start": at(-15), "expand": "payloads", "limit": "100"}
    assert listing_query(LYRIA, [LATER, LOST]) == first
    assert listing_query(LYRIA, [LOST], "2") == first | {"cursor": "2"}


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
def test_the_cursor_of_the_next_page(document: Any, expected: Any) -> None:
    cursor = next_cursor(answer(document))
    assert type(cursor) is expected if isinstance(expected, type) else cursor == expected


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"sent_at": "today"}, False),
        ({"sent_at": "2026-01-01T12:00:00"}, False),
        ({"sent_at": None}, False),
        ({"request_id": "a/b"}, False),
        ({"request_id": 7}, False),
        ({"json_input": None}, True),
    ],
)
def test_only_items_with_an_id_and_a_time_are_runs(changes: Any, shown: bool) -> None:
    read = page(ITEM | changes)
    assert ([run.ref.request_id for run in read.runs], read.unread) == ((["one"], False) if shown else ([], True))
    among = page(None, 7, [], ITEM | changes)
    assert (among.runs, among.unread) == (read.runs, True)


def test_a_listed_run_has_its_time_endpoint_and_input() -> None:
    (run,) = page(ITEM, has_more=True, next_cursor="2").runs
    assert (run.made_at, run.made_by) == (NOW, frozenset({LYRIA}))
    assert run.input == {"prompt": "x", "seed": 1}
    (bare,) = page({"request_id": "one", "sent_at": NOW.isoformat()}).runs
    assert bare.input is None


def test_a_page_has_the_time_of_its_answer() -> None:
    assert page(ITEM).read_at == NOW


@pytest.mark.parametrize("items", [None, {}, "x", 7])
def test_a_page_without_a_list_is_no_answer(items: Any) -> None:
    assert isinstance(read_page(Exchange(answer=answer({"items": items})), LYRIA), NoAnswer)
