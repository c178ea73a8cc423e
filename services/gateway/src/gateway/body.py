"""Reading a request's body without trusting its length, its framing or its pace."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from gateway.problems import Problem

READ_LIMIT_S: Final = 20.0


async def read_body(request: Request, limit: int) -> bytes:
    """The body, counted as it arrives. Raises Problem: 413 over `limit` bytes, 408 if it takes over 20 s."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and len(declared) < 20 and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(READ_LIMIT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "body-too-slow", "the body did not arrive within 20 s") from None
    except ClientDisconnect:
        raise Problem(HTTPStatus.BAD_REQUEST, "body-incomplete", "the body ended before its time") from None
    return bytes(body)


def _too_large(limit: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"the body is larger than {limit} bytes",
    )
