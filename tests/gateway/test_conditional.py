"""Conditional and range requests: ETags, lists of them, and ranges."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from starlette.datastructures import Headers

from gateway.http.conditional import asked_range, byte_range, precondition

ETAG = '"abc"'
UNCHANGED, FAILED = HTTPStatus.NOT_MODIFIED, HTTPStatus.PRECONDITION_FAILED


def headers(*lines: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.encode(), value.encode()) for name, value in lines])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"abc"', UNCHANGED),
        ('W/"abc"', UNCHANGED),
        ('"x", "abc"', UNCHANGED),
        ('W/"x","y",W/"abc"', UNCHANGED),
        ('"x",\t"abc" , ', UNCHANGED),
        ("*", UNCHANGED),
        (" * ", UNCHANGED),
        ('"x"', None),
        ('"x,abc"', None),
        ("abc", None),
        ('"ABC"', None),
        ("", None),
    ],
)
def test_if_none_match_compares_weakly_and_takes_lists(value: str, expected: HTTPStatus | None) -> None:
    assert precondition(headers(("if-none-match", value)), ETAG) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"abc"', None),
        ('"x", "abc"', None),
        ("*", None),
        ('W/"abc"', FAILED),
        ('"x"', FAILED),
        ("abc", FAILED),
        ("", FAILED),
    ],
)
def test_if_match_compares_strongly(value: str, expected: HTTPStatus | None) -> None:
    assert precondition(headers(("if-match", value)), ETAG) is expected


def test_a_list_may_be_on_several_lines_and_if_match_goes_first() -> None:
    assert precondition(headers(("if-none-match", '"x"'), ("if-none-match", 'W/"abc"')), ETAG) is UNCHANGED
    assert precondition(headers(("if-match", '"x"'), ("if-match", '"abc"')), ETAG) is None
    assert precondition(headers(("if-match", '"x"'), ("if-none-match", '"abc"')), ETAG) is FAILED
    assert precondition(headers(("if-match", '"abc"'), ("if-none-match", '"abc"')), ETAG) is UNCHANGED
    assert precondition(headers(), ETAG) is None


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("BYTES=0-9", (0, 10)),
        ("Bytes=2-4", (2, 5)),
        (" bytes = 2-4 ", (2, 5)),
        ("bytes=,2-4 ,", (2, 5)),
        ("bytes=-3", (7, 10)),
        ("bytes=0-" + "9" * 5000, (0, 10)),
        ("bytes=-" + "9" * 5000, (0, 10)),
        ("bytes=000-004", (0, 5)),
        ("bytes=0-1, 4-5", None),
        ("bytes=0-1,90-", None),
        ("bytes=90-,0-1", None),
        ("bytes=0-1,x", None),
        ("bytes=1-2-3", None),
        ("bytes=0-1;2-3", None),
        ("bytes=+0-1", None),
        ("bytes=\u0661-", None),
        ("bytes=", None),
        ("bytes", None),
        ("=0-1", None),
    ],
)
def test_a_range_selects_a_part_or_the_whole(header: str, part: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == part


@pytest.mark.parametrize("header", ["BYTES=10-", "bytes=10-,-0", "bytes=20-30, 40-", "bytes=" + "9" * 5000 + "-"])
def test_a_range_outside_of_the_file_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="no byte"):
        byte_range(header, 10)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-0", "bytes=-5"])
def test_a_range_of_an_empty_file_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="no byte 0 in a file of 0"):
        byte_range(header, 0)


@pytest.mark.parametrize(
    ("if_range", "counts"),
    [
        ('"abc"', True),
        ('W/"abc"', False),
        ('"x"', False),
        ('"x", "abc"', False),
        ("Tue, 10 Mar 2026 12:00:00 GMT", False),
        ("", False),
    ],
)
def test_if_range_applies_the_range_only_to_the_same_file(if_range: str, counts: bool) -> None:
    asked = headers(("range", "bytes=0-1"), ("if-range", if_range))
    assert asked_range(asked, ETAG) == ("bytes=0-1" if counts else None)


def test_two_range_headers_are_ignored() -> None:
    assert asked_range(headers(("range", "bytes=0-1"), ("range", "bytes=2-3")), ETAG) is None
    assert asked_range(headers(), ETAG) is None
