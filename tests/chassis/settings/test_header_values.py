"""Pasted keys: surrounding characters are removed; invalid characters inside are named and never quoted."""

from __future__ import annotations

import pytest

from chassis.settings.header_values import header_fault, stripped, text_fault

KEY = "0a1b:sesame"


@pytest.mark.parametrize(
    "around",
    [" ", "\t", "\r\n", "\n", "\ufeff", "\u200b", "\u2060", "\xa0", "\u3000", "\x00", "\u2028", "\u3164", "\ufe0f"],
)
def test_characters_around_a_key_are_removed(around: str) -> None:
    assert stripped(f"{around}{around}{KEY}{around}") == KEY
    assert header_fault(stripped(f"{around}{KEY}")) is None


@pytest.mark.parametrize(
    ("inside", "named"),
    [
        ("\u200b", "U+200B ZERO WIDTH SPACE"),
        ("\ufeff", "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("\xa0", "U+00A0 NO-BREAK SPACE"),
        (" ", "U+0020 SPACE"),
        ("\n", "U+000A LINE FEED"),
        ("\r", "U+000D CARRIAGE RETURN"),
        ("\x1b", "U+001B ESCAPE"),
        ("\x01", "U+0001 a character without a name"),
        ("é", "U+00E9 LATIN SMALL LETTER E WITH ACUTE"),
        ("\u0430", "U+0430 CYRILLIC SMALL LETTER A"),
        ("\u2013", "U+2013 EN DASH"),
        ("\u202e", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("\udce9", "U+DCE9 a character without a name"),
    ],
)
def test_an_invalid_character_is_named_with_its_position_and_without_the_key(inside: str, named: str) -> None:
    fault = header_fault(f"0a1b:{inside}sesame")
    assert fault == f"has {named} as character 6 of 12: copy it again, without that"
    assert text_fault(f"0a1b:{inside}sesame") == (None if inside == " " else fault)


@pytest.mark.parametrize("quoted", [f'"{KEY}"', f"'{KEY}'"])
def test_quotes_are_reported(quoted: str) -> None:
    assert "in quotes" in str(header_fault(quoted))


def test_an_empty_value_is_valid() -> None:
    assert (stripped(" \u200b "), header_fault("")) == ("", None)
