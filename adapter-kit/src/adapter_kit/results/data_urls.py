"""Outputs that come within the result itself, as `data:` URLs (RFC 2397), in the spellings that are about. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

_HEADER: Final = re.compile(r"data:([^,;\s]*)((?:\s*;[^,;]*)*)\s*,", re.IGNORECASE)
_BLANKS: Final = re.compile(rb"[\s\x00]+")
MAX_HEADER_CHARS: Final = 1000


class NotData(Exception):
    """The text cannot be read as data."""


@dataclass(frozen=True, slots=True)
class DataUrl:
    """What a data URL says of itself."""

    content_type: str | None
    base64: bool
    begins_at: int
    """Where in the text the data begins."""


def data_url(text: str) -> DataUrl | None:
    """The head of a data URL; None where the text is none."""
    found = _HEADER.match(text, 0, MAX_HEADER_CHARS)
    if found is None:
        return None
    parameters = {each.strip().lower() for each in found[2].split(";")}
    return DataUrl(found[1].lower() or None, "base64" in parameters, found.end())


def data_in(text: str) -> bytes:
    """The bytes that a data URL holds. Raises NotData.

    In base64, blanks, missing padding, percent-encoding and the alphabet of URLs (RFC 4648 §5) make no difference.
    """
    head = data_url(text)
    if head is None:
        raise NotData("not a data URL")
    try:
        payload = unquote_to_bytes(text[head.begins_at :])
    except UnicodeError as error:
        raise NotData("a data URL of characters that cannot be") from error
    if not head.base64:
        return payload
    payload = _BLANKS.sub(b"", payload).rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    try:
        return base64.b64decode(payload + b"=" * (-len(payload) % 4), validate=True)
    except binascii.Error as error:
        raise NotData("a data URL that is not in base64") from error
