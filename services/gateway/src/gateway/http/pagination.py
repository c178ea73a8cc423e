"""Cursors for pagination: the position after the last item of a page, as an opaque text."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Query

from contracts.ids import ATTEMPT_ID_PATTERN, JOB_ID_PATTERN
from gateway.http.problem_document import FieldProblem, Problem
from gateway.text import quoted

CursorText = Annotated[
    str | None, Query(max_length=200, description="The `next_cursor` of the previous page; unset: the first page.")
]

_ID: Final = re.compile(f"{JOB_ID_PATTERN}|{ATTEMPT_ID_PATTERN}")


def cursor_text(after: tuple[datetime, str] | None) -> str | None:
    """The cursor of the page after the item with this time and id; None for None."""
    if after is None:
        return None
    at, identifier = after
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{identifier}".encode()).decode().rstrip("=")


def cursor_of(text: str | None) -> tuple[datetime, str] | None:
    """The time and the id in a cursor; None for None. Raises Problem (422) if the API did not issue the cursor."""
    if text is None:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        at, _, identifier = raw.decode("ascii").partition("|")
        when = datetime.fromisoformat(at)
        in_utc = None if when.tzinfo is None else when.astimezone(UTC)
    except (binascii.Error, ValueError, OverflowError):
        raise _not_ours(text) from None
    if in_utc is None or not _ID.fullmatch(identifier):
        raise _not_ours(text)
    return in_utc, identifier


def _not_ours(text: str) -> Problem:
    fault = FieldProblem(field="cursor", problem="is not a next_cursor of this API", value=quoted(text))
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", "cursor: is not a next_cursor of this API", errors=[fault]
    )
