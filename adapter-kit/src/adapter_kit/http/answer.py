"""An HTTP response of a provider as a value, and its body as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP response, with echoed secrets masked. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True
    """False if elements or members of the body were omitted because of its size."""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body decoded as UTF-8; invalid bytes are replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def is_json(self) -> bool:
        """Whether the body is valid JSON, including `null`."""
        return self.json() is not None or self.body.strip() == b"null"

    @property
    def date(self) -> datetime | None:
        """When the server sent it, by its own clock; None without a valid header `Date`."""
        return http_date(self.headers.get("date", ""))

    def json(self) -> JsonValue:
        """The parsed body; None if it is not valid JSON."""
        return _json(self.body)

    def document(self) -> dict[str, JsonValue]:
        """The body as a JSON object; empty if it is not one."""
        return json_object(self.body)


def http_date(text: str) -> datetime | None:
    """The time in the value of a header; None if it is not one."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else None


def json_object(text: str | bytes) -> dict[str, JsonValue]:
    """The text parsed as a JSON object; empty if it is not one."""
    value = _json(text)
    return value if isinstance(value, dict) else {}


def _json(text: str | bytes) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value
