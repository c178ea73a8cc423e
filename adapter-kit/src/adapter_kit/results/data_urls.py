"""Outputs embedded in the result as `data:` URLs (RFC 2397), in the variants that occur. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

_HEADER: Final = re.compile(r"data:([^,;\s]*)\s*+((?:;[^,;]*+)*+),", re.IGNORECASE)
_BLANKS: Final = re.compile(rb"[\s\x00]+")
MAX_HEADER_CHARS: Final = 1000


class NotData(Exception):
    """The text is not a valid data URL."""


@dataclass(frozen=True, slots=True)
class DataUrl:
    """The header of a data URL."""

    content_type: str | None
    base64: bool
    begins_at: int
    """The index in the text at which the data begins."""


def data_url(text: str) -> DataUrl | None:
    """The header of a data URL; None if the text is not one."""
    found = _HEADER.match(text, 0, MAX_HEADER_CHARS)
    if found is None:
        return None
    parameters = {each.strip().lower() for each in found[2].split(";")}
    return DataUrl(found[1].lower() or None, "base64" in parameters, found.end())


def data_in(text: str) -> bytes:
    """The data of a data URL. Raises NotData.

    In base64, whitespace, missing padding, percent-encoding and the URL-safe alphabet (RFC 4648 §5) are accepted.
    """
    head = data_url(text)
    if head is None:
        raise NotData("not a data URL")
    try:
        payload = unquote_to_bytes(text[head.begins_at :])
    except UnicodeError as error:
        raise NotData("a data URL with invalid characters") from error
    if not head.base64:
        return payload
    payload = _BLANKS.sub(b"", payload).rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    try:
        return base64.b64decode(payload + b"=" * (-len(payload) % 4), validate=True)
    except binascii.Error as error:
        raise NotData("a data URL that is not in base64") from error
