"""The query for Replicate's list of predictions, and its answers."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from adapter_kit.http.answer import Answer
from adapter_kit.http.transport import Exchange
from adapter_kit.port.listing import Page, Slice, StagePage
from adapter_kit.port.outcomes import NoAnswer
from adapter_kit.port.provider import LostSubmission
from contracts.ids import AttemptId
from replicate_adapter.listing import (
    MOST_ITEMS,
    first_page,
    first_stages,
    name_in_list,
    next_page,
    read_page,
    read_stages,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOST = LostSubmission(AttemptId("a.1"), "google/lyria-2", {"prompt": "x"}, NOW)
LATER = LostSubmission(AttemptId("b.1"), "google/lyria-2", {"prompt": "y"}, NOW + timedelta(minutes=5))
ITEM = {
    "id": "one",
    "model": "google/lyria-2",
    "version": "hidden",
    "input": {"seed": 1, "prompt": "x"},
    "created_at": NOW.isoformat(),
}
ELSEWHERE = "https://api.replicate.com/v2/predictions?cursor=2"


def at(minutes: float) -> str:
    return (NOW + timedelta(minutes=minutes)).isoformat()


def answer(body: Any) -> Answer:
    return Answer(200, {"date": "Thu, 01 Jan 2026 12:00:00 GMT"}, json.dumps(body).encode())


def page(*items: Any, beyond: Any = None) -> Page:
    read = read_page(Exchange(answer=answer({"results": items, "next": beyond})))
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
        # Without a query, this is the first page again.
        {"next": "https://api.replicate.com/v1/predictions"},
        {},
    ],
)
def test_a_page_without_a_valid_next_link_is_no_answer(document: Any) -> None:
    assert isinstance(next_page(answer(document)), NoAnswer)


@pytest.mark.parametrize("results", [None, {}, "x", 7])
def test_a_page_without_a_list_is_no_answer(results: Any) -> None:
    assert isinstance(read_page(Exchange(answer=answer({"next": None, "results": results}))), NoAnswer)


def test_the_query_has_a_lower_and_an_upper_time() -> None:
    asked = parse_qs(urlsplit(first_page([LATER, LOST])).query)
    assert asked == {"created_after": [at(-15)], "created_before": [at(20)]}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"created_at": "today"}, False),
        ({"created_at": "2026-01-01T12:00:00"}, False),
        ({"created_at": None}, False),
        ({"id": "../account"}, False),
        ({"id": "x" * 201}, False),
        ({"id": "one\n"}, False),
        ({"id": 7}, False),
        ({"version": None}, True),
        ({"input": None}, True),
    ],
)
def test_only_items_with_an_id_and_a_time_are_runs(changes: Any, shown: bool) -> None:
    read = page(ITEM | changes)
    assert ([run.ref.request_id for run in read.runs], read.unread) == ((["one"], False) if shown else ([], True))
    among = page(None, 7, [], ITEM | changes)
    assert (among.runs, among.unread) == (read.runs, True)


def test_an_id_may_have_the_characters_of_any_run_id() -> None:
    (run,) = page(ITEM | {"id": "-r8_one-2"}).runs
    assert run.ref.request_id == "-r8_one-2"


def test_a_listed_run_has_its_time_names_and_input() -> None:
    (run,) = page(ITEM).runs
    assert (run.made_at, run.input) == (NOW, {"prompt": "x", "seed": 1.0})
    assert run.made_by == {"google/lyria-2", "hidden"}
    (removed,) = page(ITEM | {"input": {}, "data_removed": True}).runs
    assert removed.input is None


def test_a_page_has_the_time_of_its_answer() -> None:
    assert page(ITEM).read_at == NOW


def test_a_version_goes_before_its_model() -> None:
    assert name_in_list("google/lyria-2") == "google/lyria-2"
    assert name_in_list("meta/musicgen:abc") == "abc"


def stages(*items: Any, beyond: Any = None) -> StagePage:
    read = read_stages(Exchange(answer=answer({"results": items, "next": beyond})))
    assert isinstance(read, StagePage)
    return read


@pytest.mark.parametrize(
    ("status", "stage"),
    [
        ("starting", "queued"),
        ("processing", "running"),
        ("succeeded", "ended"),
        ("failed", "ended"),
        ("canceled", "ended"),
        ("aborted", "ended"),
        ("new", None),
        (None, None),
        (["succeeded"], None),
    ],
)
def test_the_list_says_whether_a_run_goes_on(status: Any, stage: str | None) -> None:
    assert stages(ITEM | {"status": status}).stages == ({} if stage is None else {"one": stage})


def test_the_rest_of_a_page_is_read_if_an_item_is_malformed() -> None:
    good = ITEM | {"status": "processing"}
    assert stages(None, 7, good | {"id": "../account"}, good | {"id": 7}, good).stages == {"one": "running"}
    assert stages(good, beyond="https://[").beyond is None


def test_only_the_beginning_of_a_page_of_any_length_is_read() -> None:
    many = [{"id": f"r{n}", "status": "processing"} for n in range(MOST_ITEMS + 5)]
    assert len(stages(*many).stages) == MOST_ITEMS


@pytest.mark.parametrize("body", [{}, {"results": None}, {"results": "x"}, []])
def test_an_answer_without_a_list_says_nothing(body: Any) -> None:
    assert isinstance(read_stages(Exchange(answer=answer(body))), NoAnswer)


def test_the_slices_of_the_list_have_times() -> None:
    asked = parse_qs(urlsplit(first_stages(Slice(NOW, NOW + timedelta(minutes=1)))).query)
    assert asked == {"created_after": [at(0)], "created_before": [at(1)]}
    assert parse_qs(urlsplit(first_stages(Slice(NOW, None))).query) == {"created_after": [at(0)]}
