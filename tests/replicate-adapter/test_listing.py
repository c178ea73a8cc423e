"""What Replicate's list of predictions says of a run whose create got no answer."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from adapter_kit.outcomes import Found, NoAnswer, NotFound
from adapter_kit.provider import LostSubmission
from adapter_kit.wire import Answer, Exchange
from contracts.ids import AttemptId
from replicate_adapter.listing import Page, find_outcome, first_page, next_page, read_page

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOST = LostSubmission(AttemptId("a.1"), "google/lyria-2", {"prompt": "x", "seed": 1.0}, NOW, frozenset({"taken"}))
FITTING = {"model": "google/lyria-2", "input": {"seed": 1, "prompt": "x"}, "created_at": NOW.isoformat()}
REMOVED = FITTING | {"id": "removed", "input": {}, "data_removed": True}
MORE = "https://api.replicate.com/v1/predictions?cursor=2"
ELSEWHERE = "https://api.replicate.com/v2/predictions?cursor=2"


def at(minutes: float) -> str:
    return (NOW + timedelta(minutes=minutes)).isoformat()


def answer(body: Any) -> Answer:
    return Answer(200, {}, json.dumps(body).encode())


def page(*items: Any, beyond: Any = None) -> Page:
    read = read_page(Exchange(answer=answer({"results": items, "next": beyond})), LOST)
    assert isinstance(read, Page)
    return read


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.replicate.com/v1/predictions?cursor=a%2Bb", "/v1/predictions?cursor=a%2Bb"),
        ("https://api.replicate.com/v1/predictions/?cursor=x", "/v1/predictions?cursor=x"),
        ("http://proxy/replicate/v1/predictions?cursor=x", "/v1/predictions?cursor=x"),
        ("/v1/predictions?cursor=x", "/v1/predictions?cursor=x"),
        ("https://evil.example/v1/predictions?cursor=1", "/v1/predictions?cursor=1"),
        (None, None),
    ],
)
def test_the_next_page_is_only_ever_a_path_of_the_list(url: Any, expected: str | None) -> None:
    assert next_page(answer({"next": url})) == expected


@pytest.mark.parametrize(
    "document",
    [
        {"next": ELSEWHERE},
        {"next": "https://evil.example/v1/files?cursor=1"},
        {"next": "https://["},
        {"next": ""},
        {"next": 7},
        # Without a query, it would be the list's beginning once more.
        {"next": "https://api.replicate.com/v1/predictions"},
        {},
    ],
)
def test_an_end_that_is_not_said_is_none(document: Any) -> None:
    assert isinstance(next_page(answer(document)), NoAnswer)


@pytest.mark.parametrize("results", [None, {}, "x", 7])
def test_a_page_without_a_list_is_no_answer(results: Any) -> None:
    assert isinstance(read_page(Exchange(answer=answer({"next": None, "results": results})), LOST), NoAnswer)


def test_the_window_has_two_sides() -> None:
    asked = parse_qs(urlsplit(first_page(LOST)).query)
    assert asked == {"created_after": [at(-15)], "created_before": [at(15)]}


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        # The two clocks need not agree.
        ({"created_at": at(-14)}, True),
        ({"created_at": at(14)}, True),
        ({"created_at": at(-16)}, False),
        ({"created_at": at(16)}, False),
        ({"created_at": "today"}, False),
        ({"created_at": "2026-01-01T12:00:00"}, False),
        ({"id": "taken"}, False),
        ({"id": "../account"}, False),
        ({"input": {"prompt": "x"}}, False),
        ({"model": "google/lyria-3"}, False),
    ],
)
def test_what_may_be_the_lost_one(changes: Any, fits: bool) -> None:
    found = page(FITTING | {"id": "one"} | changes)
    assert [ref.request_id for _, ref in found.fitting] == (["one"] if fits else [])
    assert not found.removed


@pytest.mark.parametrize(
    ("changes", "removed"),
    [
        ({}, True),
        ({"data_removed": False}, False),
        ({"id": "taken"}, False),
        ({"model": "google/lyria-3"}, False),
        ({"created_at": at(-16)}, False),
        ({"created_at": at(16)}, False),
    ],
)
def test_a_removed_input_may_have_been_the_lost_one_s(changes: Any, removed: bool) -> None:
    assert page(REMOVED | changes).removed is removed


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([page()], NotFound(conclusive=True)),
        ([page(beyond=MORE), page()], NotFound(conclusive=True)),
        ([page(beyond=MORE)] * 10, NoAnswer("the listing is longer than 10 pages")),
        ([page(beyond=ELSEWHERE)], NoAnswer("the list of predictions goes on where it cannot be followed")),
        ([page(REMOVED, beyond=MORE), page()], NoAnswer),
        ([page(FITTING | {"id": "new"}, beyond=MORE), page(FITTING | {"id": "old", "created_at": at(-1)})], "old"),
        ([page(FITTING | {"id": "one"}, REMOVED, beyond=ELSEWHERE)], "one"),
    ],
)
def test_what_the_pages_say_together(pages: list[Page], expected: Any) -> None:
    outcome = find_outcome(pages)
    if isinstance(expected, str):
        assert isinstance(outcome, Found)
        assert outcome.ref.request_id == expected
    elif isinstance(expected, type):
        assert type(outcome) is expected
    else:
        assert outcome == expected
