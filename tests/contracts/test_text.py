"""Texts of others are shown without characters that move a cursor, reorder a line or hide; blank texts are found."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.text import error_in_words, escaped, escaped_line, is_blank, replaced, replaced_line, stripped

FFFD = "\N{REPLACEMENT CHARACTER}"
VISIBLE_FORMATS = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")


@pytest.mark.parametrize(
    "char",
    [
        *map(chr, (*range(9), *range(11, 32), *range(0x7F, 0xA0))),
        *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u206a\u206f",
        *"\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u2028\u2029\ufff9\U000e0001\U000e0041",
        "\ud800",
    ],
    ids=ascii,
)
def test_characters_that_move_reorder_or_hide_are_replaced_visibly(char: str) -> None:
    assert replaced(f"a{char}b") == f"a{FFFD}b"
    assert replaced(char) == FFFD


@pytest.mark.parametrize(
    "text",
    [
        "Zürich — “warm” pad, 20 s\n\twith strings",
        "\u0645\u06cc\u200c\u062e\u0648",  # Persian needs the non-joiner.
        "क्\u200dष",
        "👨\u200d👩\u200d👧 ❤️\u200d🔥 🇨🇭",
        "深いアンビエント\u3000パッド",
        "\u0603 \N{COMBINING ACUTE ACCENT}e\N{COMBINING ACUTE ACCENT}",
    ],
)
def test_ordinary_texts_are_unchanged(text: str) -> None:
    assert replaced(text) == text


def test_escape_sequences_are_made_harmless_and_line_ends_kept() -> None:
    shown = replaced("\x1b[2J\x1b]0;owned\x07 \x9b31m red\r\nnext\rover")
    assert shown == f"{FFFD}[2J{FFFD}]0;owned{FFFD} {FFFD}31m red\nnext{FFFD}over"
    assert replaced_line("a\r\nb\tc\x1b") == f"a{FFFD}b{FFFD}c{FFFD}"


@given(text=st.text(st.characters(), max_size=60))
def test_no_control_or_format_character_is_left(text: str) -> None:
    shown = replaced(text)
    assert replaced(shown) == shown
    left = {char for char in shown if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    # The format controls of Egyptian hieroglyphs affect no other script.
    left = {char for char in left - VISIBLE_FORMATS if not "\U00013430" <= char <= "\U0001345f"}
    assert left <= {"\n", "\t", "\u200c", "\u200d"}
    assert not re.search("[\x00-\x7f][\u200c\u200d]|[\u200c\u200d][\x00-\x7f]|^[\u200c\u200d]|[\u200c\u200d]$", shown)


INVISIBLE = (
    " \t\n\r\x0b\x0c\x00\x07\x1b\x7f\x85\x9b\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b\u180e\u2000\u200a"
    "\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202e\u202f\u205f\u2060\u2064\u2065\u2066\u2069\u206f\u2800\u3000"
    "\u3164\ufe00\ufe0f\ufeff\uffa0\ufff0\ufffb\U0001d159\U0001d173\U0001bca0\U000e0001\U000e0020\U000e007f\U000e0100"
    "\U000e01ef"
)


@pytest.mark.parametrize("char", INVISIBLE, ids=ascii)
def test_a_text_of_invisible_characters_is_blank(char: str) -> None:
    assert is_blank(char * 3)
    assert is_blank(INVISIBLE + char)
    assert not is_blank(f"{char}a{char}")


@pytest.mark.parametrize("text", ["a", ".", "0", "♪", "ᄀ", "🎹", FFFD, "\N{COMBINING ACUTE ACCENT}", "\u0600"])
def test_a_text_with_a_visible_character_is_not_blank(text: str) -> None:
    assert not is_blank(text)


def test_blanks_around_a_text_are_stripped() -> None:
    assert stripped("\ufeff\u200b \xa0\n warm  pad \t\u3164\u2800\x07") == "warm  pad"
    assert stripped("\u200d\ufe0fwarm\u200f") == "warm"
    # These belong to the character before them, or to the one after.
    for text in ("❤️", "क्\u200d", "\u115fᅡ", "\x00 a"):
        assert stripped(text) == text


def test_a_long_text_of_blanks_is_stripped_quickly() -> None:
    text = " " * 500_000 + "a" + "\u200b" * 500_000
    assert stripped(text) == "a"
    assert not is_blank(text)


def test_a_group_of_errors_is_described_by_its_first_error() -> None:
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ExceptionGroup("inner", [OverflowError("too high")])])
    assert error_in_words(group) == "OverflowError: too high"
    assert error_in_words(TimeoutError()) == "TimeoutError"


BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\u001b[31mred\\u001b[0m"),
        ("\x9b31m", "\\u009b31m"),
        ("bell\x07", "bell\\u0007"),
        ("paid $9\x08\x08$0", "paid $9\\u0008\\u0008$0"),
        ("done\rfailed", "done\\u000dfailed"),
        ("\x7f", "\\u007f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("half \ud83c", "half \\ud83c"),
    ],
)
def test_terminal_controls_are_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "über, naïve, 東京",
        "\u0633\u0644\u0627\u0645",
        "\u0645\u06cc\u200c\u062e",
        "👩\u200d🎤 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "a\tb\nc",
        "\\u001b as text",
    ],
)
def test_ordinary_texts_are_not_escaped(text: str) -> None:
    assert escaped(text) == text


@given(st.text(st.characters()))
def test_no_terminal_control_is_left(text: str) -> None:
    left = escaped(text)
    obeyed = {char for char in left if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in BIDI}
    assert obeyed <= {"\t", "\n"}
    assert escaped(left) == left


@given(st.dictionaries(st.text(), st.text()))
def test_escaped_json_has_the_same_value(document: dict[str, str]) -> None:
    assert json.loads(escaped(json.dumps(document, ensure_ascii=False))) == document


def test_several_lines_become_one() -> None:
    assert escaped_line("  models.yaml:3: a\r\n\n models.yaml:4:\tb\n") == "models.yaml:3: a; models.yaml:4: b"
