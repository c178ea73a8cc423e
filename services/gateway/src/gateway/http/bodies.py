"""Reading a request's body without trusting its length or its framing; its pace is the listener's business."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from gateway.http.problems import Problem, shown

# The longer ones first: a byte order mark of UTF-32 begins as one of UTF-16 does.
_MARKS: Final = (
    (b"\xef\xbb\xbf", "it starts with a byte order mark of UTF-8 (EF BB BF), which has no place in JSON"),
    (b"\xff\xfe\x00\x00", "it starts with a byte order mark of UTF-32 (FF FE 00 00)"),
    (b"\x00\x00\xfe\xff", "it starts with a byte order mark of UTF-32 (00 00 FE FF)"),
    (b"\xff\xfe", "it starts with a byte order mark of UTF-16 (FF FE)"),
    (b"\xfe\xff", "it starts with a byte order mark of UTF-16 (FE FF)"),
    (b"\x1f\x8b", "it is compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd"),
    (b"\x78\x01", "it is compressed with deflate"),
    (b"\x78\x9c", "it is compressed with deflate"),
    (b"\x78\xda", "it is compressed with deflate"),
)


async def read_body(request: Request, limit: int) -> bytes:
    """The body, counted as it arrives.

    Raises Problem: 415 if it is declared to be compressed, 413 over `limit` bytes, 400 if it does not come whole. A
    body that comes too slowly ends here as one that does not come whole; the listener has answered 408 then.
    """
    _require_plain(request)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and len(declared) < 20 and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
    except ClientDisconnect:
        body.clear()  # The error keeps this frame until the garbage is collected.
        raise Problem(HTTPStatus.BAD_REQUEST, "body-incomplete", "the body ended before its time") from None
    return bytes(body)


def declared_type(request: Request) -> str:
    """What the body is declared to be; all of it, where a request says that twice."""
    return ", ".join(request.headers.getlist("content-type"))


def not_json(raw: bytes, reason: str) -> Problem:
    """The body is not JSON in UTF-8, for this reason; what it starts with may say it better."""
    told = next((what for start, what in _MARKS if raw.startswith(start)), None)
    if told is None and b"\x00" in raw[:4]:
        told = "it looks like UTF-16 or UTF-32 (every other byte is 0)"
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-json", f"the body is not JSON in UTF-8: {told or reason}")


def _require_plain(request: Request) -> None:
    declared = ", ".join(request.headers.getlist("content-encoding"))
    codings = [coding.strip() for coding in declared.split(",")]
    if all(coding.lower() in ("", "identity") for coding in codings):
        return
    raise Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        f"the body is sent with Content-Encoding: {shown(declared)}; send it as it is, without one",
        # What it may be sent with instead (RFC 9110 section 15.5.16).
        headers={"Accept-Encoding": "identity"},
    )


def _too_large(limit: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"the body is larger than {limit} bytes",
    )
