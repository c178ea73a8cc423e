"""Reading a request's body without trusting its length or its framing; its pace is the listener's business."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Request
from starlette.requests import ClientDisconnect

from gateway.http.problem_document import Problem
from gateway.text import shown


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


async def disconnected(request: Request) -> None:
    """Wait until the client is gone. What is left of the body is dropped."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


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
