"""Nothing that a terminal obeys gets through, and nothing else is touched."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.printable import one_line, printable

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
def test_what_steers_a_terminal_becomes_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


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
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == text


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    left = printable(text)
    obeyed = {char for char in left if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in BIDI}
    assert obeyed <= {"\t", "\n"}
    assert printable(left) == left


@given(st.dictionaries(st.text(), st.text()))
def test_json_stays_json_with_the_same_meaning(document: dict[str, str]) -> None:
    assert json.loads(printable(json.dumps(document, ensure_ascii=False))) == document


def test_one_line_is_one() -> None:
    assert one_line("  models.yaml:3: a\r\n\n models.yaml:4:\tb\n") == "models.yaml:3: a; models.yaml:4: b"
