"""One HTTP answer of a provider, as a value, and its body as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole HTTP answer, without the secrets it may have echoed; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True
    """Nothing that counts was left out of it for its size."""

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text, whatever it holds."""
        return self.body.decode("utf-8", "replace")

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON, `null` among it."""
        return self.json() is not None or self.body.strip() == b"null"

    def json(self) -> JsonValue:
        """The body as JSON; None where it is none."""
        return _json(self.body)

    def document(self) -> dict[str, JsonValue]:
        """The body as a JSON object; empty where it is none."""
        return json_object(self.body)


def json_object(text: str | bytes) -> dict[str, JsonValue]:
    """A JSON object; empty where the text is none."""
    value = _json(text)
    return value if isinstance(value, dict) else {}


def _json(text: str | bytes) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value
