"""What the API says, harmless wherever it is shown: words that others wrote, and the JSON that carries them."""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, field_validator

from contracts.text import UNPRINTABLE, replaced


class Answer(BaseModel):
    """What the API answers. Its texts are `replaced`; a mapping of the client's own is given back as it came."""

    @field_validator("*", mode="after")
    @classmethod
    def _is_printable(cls, value: Any) -> Any:
        return replaced(value) if isinstance(value, str) else value


class PlainJSON(JSONResponse):
    """JSON in which control, format-override and surrogate characters are escaped: the text is the same to a program.

    JSON itself asks for that of control characters below U+0020 only.
    """

    def render(self, content: Any) -> bytes:
        """The document as it is sent."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return UNPRINTABLE.sub(_escaped, text).encode()


def _escaped(found: Any) -> str:
    # The standard library spells characters beyond U+FFFF as JSON wants them, in two parts.
    return json.dumps(found[0])[1:-1]
