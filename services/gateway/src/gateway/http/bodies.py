"""Reads request bodies of bounded size. The listener bounds the time that a body may take."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Request
from starlette.requests import ClientDisconnect

from gateway.http.problem_document import Problem
from gateway.text import quoted


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises Problem: 415 if it has a Content-Encoding, 413 if it is larger than `limit` bytes, 400 if it is incomplete.
    A body that arrives too slowly counts as incomplete here; the listener has already answered it with 408.
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
        body.clear()  # The traceback keeps this frame alive until it is garbage-collected.
        raise Problem(
            HTTPStatus.BAD_REQUEST, "body-incomplete", "the connection closed before the body ended"
        ) from None
    return bytes(body)


async def disconnected(request: Request) -> None:
    """Wait until the client has disconnected; discards the rest of the body."""
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
        f"the body is sent with Content-Encoding: {quoted(declared)}; send it without a Content-Encoding",
        # RFC 9110 section 15.5.16: a 415 names the codings that would be accepted.
        headers={"Accept-Encoding": "identity"},
    )


def _too_large(limit: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"the body is larger than {limit} bytes",
    )
