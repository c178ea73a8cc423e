"""Conditional requests and range requests (RFC 9110 sections 13 and 14). Pure.

Files have a strong ETag and no Last-Modified, so conditions on dates do not apply.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers

_ETAG: Final = re.compile(r'([Ww]/)?("[^"]*")')
_RANGE: Final = re.compile(r"([0-9]*)-([0-9]*)")
_LARGEST: Final = 10**18
"""Larger than any file; stands for longer numbers, as Python raises ValueError for thousands of digits."""


def precondition(headers: Headers, etag: str) -> HTTPStatus | None:
    """The status that answers a GET or HEAD of a resource with this ETag: 412, 304, or None if the conditions hold.

    If-Match compares strongly, so a weak ETag never matches; If-None-Match compares weakly. Both may be lists or `*`.
    """
    if_match, if_none_match = _combined(headers, "if-match"), _combined(headers, "if-none-match")
    if if_match is not None and if_match != "*" and etag not in _strong(if_match):
        return HTTPStatus.PRECONDITION_FAILED
    if if_none_match is not None and (if_none_match == "*" or etag in {tag for _, tag in _ETAG.findall(if_none_match)}):
        return HTTPStatus.NOT_MODIFIED
    return None


def asked_range(headers: Headers, etag: str) -> str | None:
    """The Range header of a GET; None if there is none or several, or if If-Range does not match the ETag."""
    ranges, if_range = headers.getlist("range"), headers.getlist("if-range")
    return ranges[0] if len(ranges) == 1 and (not if_range or [each.strip() for each in if_range] == [etag]) else None


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The requested part of a file as (start, end), end exclusive; None for the whole file.

    A malformed header, and a request for several parts that the file has in part, mean the whole file (RFC 9110
    section 14.2). Raises ValueError if the file has none of the requested parts.
    """
    unit, _, listed = (header or "").partition("=")
    if unit.strip().lower() != "bytes":
        return None
    parts = [part for each in listed.split(",") if (part := each.strip(" \t"))]
    matches = [_RANGE.fullmatch(part) for part in parts]
    spans = [_span(match[1], match[2], size) for match in matches if match is not None]
    if not spans or len(spans) < len(parts) or not all(spans):
        return None
    satisfiable = [(start, min(end, size)) for start, end in filter(None, spans) if start < min(end, size)]
    if not satisfiable:
        raise ValueError(f"no byte {next(start for start, _ in filter(None, spans))} in a file of {size}")
    return satisfiable[0] if len(parts) == 1 else None


def _span(first: str, last: str, size: int) -> tuple[int, int] | None:
    """The range as (start, end), end exclusive, both possibly beyond the end of the file; None if it is invalid."""
    if not first:
        return (max(0, size - _number(last)), size) if last else None
    start, end = _number(first), _number(last) + 1 if last else _LARGEST + 2
    return (start, end) if start < end else None


def _number(digits: str) -> int:
    return int(digits) if len(digits) <= 18 else _LARGEST


def _combined(headers: Headers, name: str) -> str | None:
    values = headers.getlist(name)
    return ", ".join(values).strip() if values else None


def _strong(tags: str) -> set[str]:
    return {tag for weak, tag in _ETAG.findall(tags) if not weak}
