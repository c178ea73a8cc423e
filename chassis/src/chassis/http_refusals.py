"""What a listener answers itself, before any application is asked: each as an `application/problem+json` document."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken, and the answer that says so and ends the connection."""

    kind: str
    answer: bytes


def problem_document(kind: str, status: HTTPStatus, detail: str) -> dict[str, object]:
    """The members of an error document (RFC 9457), as the API has them."""
    title = kind.replace("-", " ").capitalize()
    return {"type": f"urn:segue:problem:{kind}", "title": title, "status": int(status), "detail": detail}


def _refusal(kind: str, status: HTTPStatus, detail: str, *more: str) -> Refusal:
    body = json.dumps(problem_document(kind, status, detail)).encode()
    head = [
        f"HTTP/1.1 {status:d} {status.phrase}",
        "content-type: application/problem+json",
        f"content-length: {len(body)}",
        *more,
        "connection: close",
    ]
    return Refusal(kind, "\r\n".join([*head, "", ""]).encode() + body)


_AGAIN: Final = "retry-after: 5"

MALFORMED: Final = _refusal("malformed-request", HTTPStatus.BAD_REQUEST, "this is not a request in HTTP/1.1")
NO_UPGRADE: Final = _refusal("no-websocket", HTTPStatus.BAD_REQUEST, "no WebSocket is served here")
NO_TUNNEL: Final = _refusal("no-tunnel", HTTPStatus.NOT_IMPLEMENTED, "CONNECT is not possible here")
BODY_FRAMING: Final = _refusal(
    "body-framing", HTTPStatus.BAD_REQUEST, "the body has more chunk extensions and trailers than content"
)
LINE_TOO_LONG: Final = _refusal(
    "request-line-too-long", HTTPStatus.REQUEST_URI_TOO_LONG, "the request's path and query are too long"
)
HEADERS_TOO_LARGE: Final = _refusal(
    "headers-too-large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "the request has too many headers, or they are too long",
)
HEADERS_TOO_SLOW: Final = _refusal(
    "headers-too-slow", HTTPStatus.REQUEST_TIMEOUT, "the request's headers did not arrive in time"
)
BODY_TOO_SLOW: Final = _refusal(
    "body-too-slow", HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time, and nothing of it was taken"
)
TOO_MANY_PIPELINED: Final = _refusal(
    "too-many-pipelined",
    HTTPStatus.TOO_MANY_REQUESTS,
    "too many requests were sent before the first was answered; those without an answer were not taken",
    _AGAIN,
)
TOO_MANY_CONNECTIONS: Final = _refusal(
    "too-many-connections",
    HTTPStatus.TOO_MANY_REQUESTS,
    "too many connections from this address are open, with a request under way on each",
    _AGAIN,
)
