"""Requests that depend on what a client has already, or want a part of a file (RFC 9110 sections 13 and 14). Pure.

A file of Segue's has a strong ETag and no Last-Modified, so that what is said of dates makes no difference.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers

_ETAG: Final = re.compile(r'([Ww]/)?("[^"]*")')
_RANGE: Final = re.compile(r"([0-9]*)-([0-9]*)")
_LARGEST: Final = 10**18
"""Larger than any file. Python refuses to read numbers of thousands of digits."""


def precondition(headers: Headers, etag: str) -> HTTPStatus | None:
    """What a GET or a HEAD of what has this ETag is answered with, instead of it: 412, 304, or nothing.

    If-Match compares strongly, so that a weak ETag never fits; If-None-Match compares weakly. Both take lists, and `*`.
    """
    wanted, had = _listed(headers, "if-match"), _listed(headers, "if-none-match")
    if wanted is not None and wanted != "*" and etag not in _strong(wanted):
        return HTTPStatus.PRECONDITION_FAILED
    if had is not None and (had == "*" or etag in {opaque for _, opaque in _ETAG.findall(had)}):
        return HTTPStatus.NOT_MODIFIED
    return None


def asked_range(headers: Headers, etag: str) -> str | None:
    """The Range header of a GET, where it counts: if it is there once, and If-Range, if there, names the very file."""
    asked, only_of = headers.getlist("range"), headers.getlist("if-range")
    return asked[0] if len(asked) == 1 and (not only_of or [each.strip() for each in only_of] == [etag]) else None


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The part from start to before end that a Range header asks for; None for the whole.

    What is malformed, or asks for several parts of which the file has any, means the whole (RFC 9110 section 14.2).
    Raises ValueError for a part, or for several, of which the file has none.
    """
    unit, _, listed = (header or "").partition("=")
    if unit.strip().lower() != "bytes":
        return None
    parts = [part for each in listed.split(",") if (part := each.strip(" \t"))]
    found = [_RANGE.fullmatch(part) for part in parts]
    asked = [_span(each[1], each[2], size) for each in found if each is not None]
    if not asked or len(asked) < len(parts) or not all(asked):
        return None
    there = [(start, min(end, size)) for start, end in filter(None, asked) if start < min(end, size)]
    if not there:
        raise ValueError(f"no byte {next(start for start, _ in filter(None, asked))} in a file of {size}")
    return there[0] if len(parts) == 1 else None


def _span(first: str, last: str, size: int) -> tuple[int, int] | None:
    """From start to before end, both perhaps beyond the file; None for what is no range."""
    if not first:
        return (max(0, size - _number(last)), size) if last else None
    start, end = _number(first), _number(last) + 1 if last else _LARGEST + 2
    return (start, end) if start < end else None


def _number(digits: str) -> int:
    return int(digits) if len(digits) <= 18 else _LARGEST


def _listed(headers: Headers, name: str) -> str | None:
    lines = headers.getlist(name)
    return ", ".join(lines).strip() if lines else None


def _strong(listed: str) -> set[str]:
    return {opaque for weak, opaque in _ETAG.findall(listed) if not weak}
