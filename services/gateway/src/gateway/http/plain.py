"""Responses that are safe to display: texts of clients and providers without control characters, also in raw JSON."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi.responses import JSONResponse
from pydantic import BaseModel, field_validator

from contracts.text import UNPRINTABLE, replaced

# json.dumps makes another encoder with each call.
_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Answer(BaseModel):
    """Base of the response models. Control characters in texts are replaced; a client's own mapping is unchanged."""

    @field_validator("*", mode="after")
    @classmethod
    def _is_printable(cls, value: Any) -> Any:
        return replaced(value) if isinstance(value, str) else value


class PlainJSON(JSONResponse):
    """A JSON response with control, format-override and surrogate characters escaped; its parsed value is the same.

    JSON requires the escape for control characters below U+0020 only.
    """

    def render(self, content: Any) -> bytes:
        """The encoded document."""
        text = _COMPACT.encode(content)
        if text.isascii() and text.isprintable():
            return text.encode()
        return UNPRINTABLE.sub(_escaped, text).encode()


def _escaped(found: Any) -> str:
    # json.dumps escapes characters beyond U+FFFF as surrogate pairs, as JSON requires.
    return json.dumps(found[0])[1:-1]
