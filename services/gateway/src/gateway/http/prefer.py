"""The Prefer header (RFC 7240): how long a client wants to wait for its job."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import WithJsonSchema

MAX_WAIT_S: Final = 60
Prefer = Annotated[
    list[str], WithJsonSchema({"type": "string", "pattern": "^wait=[0-9]{1,2}$", "examples": ["wait=30"]})
]
"""The values of a request's Prefer headers. Each endpoint describes their effect."""
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)


def wait_of(headers: Sequence[str]) -> int | None:
    """The seconds in `wait=N`, at most 60; None without a valid `wait` preference."""
    found = _WAIT.search(", ".join(headers))
    return None if found is None else min(int(found[1]), MAX_WAIT_S)
