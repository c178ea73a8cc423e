"""Checks of settings that become part of an HTTP header or a URL: invisible characters are stripped or reported."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

# Invisible letters, marks and symbols, which have no Unicode category of their own.
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(n) for n in range(0xFE00, 0xFE10)
}
_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_CONTROLS: Final = {0x00: "NULL", 0x08: "BACKSPACE", 0x09: "TAB", 0x0A: "LINE FEED", 0x0D: "CARRIAGE RETURN",
                    0x1B: "ESCAPE", 0x7F: "DELETE", 0x85: "NEXT LINE"}  # fmt: skip
"""Names of control characters, which have none in Unicode's database."""

CREDENTIAL: Final = re.compile(r"(?:AWS|AZURE)_\w*(?:KEY|ID|TOKEN|SECRET|ACCOUNT_NAME|REGION|ENDPOINT|URL\w*)")
"""Names of the credentials that the artifact store's library reads from the environment itself."""
_CLOUDS: Final = {"s3": "AWS_", "az": "AZURE_"}
"""The prefix of the environment variables with the credentials of each store; Google's are in files."""


def stripped(value: str) -> str:
    """The value without whitespace and invisible characters at its ends, such as a BOM or a zero-width space."""
    start, end = 0, len(value)
    while start < end and _is_invisible(value[start]):
        start += 1
    while end > start and _is_invisible(value[end - 1]):
        end -= 1
    return value[start:end]


def header_fault(value: str) -> str | None:
    """Why the value cannot be sent in an HTTP header or a URL, without quoting the value; None if it can.

    Keys and tokens consist of visible ASCII characters. https://www.rfc-editor.org/rfc/rfc9110#section-5.5
    """
    if value[:1] in {"'", '"'} and value[-1:] == value[:1]:
        return "is in quotes, which are part of the value here: remove them"
    return _first_fault(value, _is_visible_ascii)


def text_fault(value: str) -> str | None:
    """As `header_fault`, for a secret that is used for signatures and not sent: inner spaces are allowed."""
    return _first_fault(value, lambda char: char == " " or _is_visible_ascii(char))


def credential_faults(store_url: str | None, environ: Mapping[str, str]) -> list[str]:
    """Faults of the credentials that the artifact store's library reads from the environment itself."""
    cloud = _CLOUDS.get((store_url or "").partition("://")[0])
    wanted = (name for name in sorted(environ) if cloud and name.startswith(cloud) and CREDENTIAL.fullmatch(name))
    return [f"{name}: {fault}" for name in wanted if (fault := header_fault(stripped(environ[name])))]


def named(char: str) -> str:
    """The code point and the Unicode name of a character."""
    name = _CONTROLS.get(ord(char)) or unicodedata.name(char, "a character without a name")
    return f"U+{ord(char):04X} {name}"


def _first_fault(value: str, is_fine: Callable[[str], bool]) -> str | None:
    for position, char in enumerate(value, start=1):
        if not is_fine(char):
            return f"has {named(char)} as character {position} of {len(value)}: copy it again, without that"
    return None


def _is_visible_ascii(char: str) -> bool:
    return "!" <= char <= "~"


def _is_invisible(char: str) -> bool:
    return char in _INVISIBLE or unicodedata.category(char) in _INVISIBLE_CATEGORIES
