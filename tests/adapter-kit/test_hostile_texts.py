"""Texts from outside that make a careless regular expression try exponentially or quadratically many ways."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_kit.http.answer import Answer
from adapter_kit.http.error_rules import ABOUT_MODEL, Evidence, texts_in
from adapter_kit.http.retry_after import retry_after_s
from adapter_kit.media.magic import text_in
from adapter_kit.phrases.reading import kind_said
from adapter_kit.results import data_urls, find_files
from adapter_kit.results.choose_outputs import read_outputs
from adapter_kit.results.find_files import links_in
from adapter_kit.results.links import link_in

SOUND = {"audio": {"url": "https://files.example/a.wav"}}


def after(wait: str) -> float | None:
    return retry_after_s(Answer(429, {}, wait.encode()))


def about_model(text: str) -> bool:
    return Evidence(text).names(ABOUT_MODEL)


@pytest.mark.parametrize(
    ("read", "arguments"),
    [
        (read_outputs, (SOUND, "music", "", {"prompt": "data:" + "; " * 200})),
        (kind_said, (["ValueError: Xx" + "_a" * 200 + " is invalid"],)),
        (links_in, ("a" + " " * 99_000 + "b",)),
        (texts_in, ({"suggest" * 10_000 + "\n": "x"},)),
    ],
    ids=["data", "code", "joined", "field"],
)
def test_a_hostile_text_is_read_in_bounded_time(read: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    began = time.process_time()
    read(*arguments)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("read", "hostile"),
    [
        (after, "wait 1s" + " " * 1_990),
        (text_in, b" " * 4_096),
        (link_in, "//" + "a" * 4_000 + "/" * 3_900 + "\nb"),
        (about_model, "-\n" * 3_000),
    ],
    ids=["delay", "page", "address", "lines"],
)
def test_a_hostile_text_is_passed_once(read: Callable[[Any], Any], hostile: Any) -> None:
    began = time.process_time()
    for _ in range(20):
        read(hostile)
    assert time.process_time() - began < 0.5


PIECES = ["data:", "DATA:", ";", ",", " ", "\n", "a", "a/b", "base64", "|", "http://", "https://", "x"]
HEADER = re.compile(r"data:([^,;\s]*)((?:\s*;[^,;]*)*)\s*,", re.IGNORECASE)
JOINED = re.compile(r"\s*[,;|]\s*(?=https?://)", re.IGNORECASE)


def header(pattern: re.Pattern[str], text: str) -> Any:
    found = pattern.match(text)
    return found and (found.end(), found[1], [each.strip() for each in found[2].split(";")])


@given(text=st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=500, deadline=None)
def test_the_expressions_match_the_same_texts_as_their_plain_forms(text: str) -> None:
    for each in (text, f"data:{text}"):
        assert header(data_urls._HEADER, each) == header(HEADER, each)
    assert find_files._JOINED.split(text) == JOINED.split(text)


PARTS = ["not found", "404", ": ", " ", "\n", "-", "x", "The requested resource was not found", "the ", "."]
NOTHING_THERE = re.compile(
    r"^\W*(?:the )?requested resource (?:could not be|was not) found|^\W*(?:404:? )?not found\W*$",
    re.IGNORECASE | re.MULTILINE,
)


@given(text=st.lists(st.sampled_from(PARTS), max_size=8).map("".join))
@settings(max_examples=500, deadline=None)
def test_a_line_that_says_not_found_is_about_the_model(text: str) -> None:
    assert Evidence(text).names(ABOUT_MODEL) == (NOTHING_THERE.search(Evidence(text).own_text) is not None)
