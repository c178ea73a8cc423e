"""Cursors: where a page ended, as clients hand it back."""

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
from gateway.text import shown

CursorText = Annotated[
    str | None, Query(max_length=200, description="The `next_cursor` of the page before; unset: the first page.")
]

_ID: Final = re.compile(f"{JOB_ID_PATTERN}|{ATTEMPT_ID_PATTERN}")


def cursor_text(at: datetime, identifier: str) -> str:
    """The cursor for what comes after this one."""
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{identifier}".encode()).decode().rstrip("=")


def cursor_of(text: str | None) -> tuple[datetime, str] | None:
    """The time and the id that a cursor names. Raises Problem if it is not one that the API gave."""
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
    fault = FieldProblem(field="cursor", problem="is not a next_cursor of this API", value=shown(text))
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", "cursor: is not a next_cursor of this API", errors=[fault]
    )
