"""Responses that a listener sends itself, before the application is called, as `application/problem+json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason for a refused request, and the response that reports it and closes the connection."""

    kind: str
    status: HTTPStatus
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def answer(self, more: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
        """The bytes to send, with additional headers, such as the server's date."""
        body = json.dumps(problem_document(self.kind, self.status, self.detail)).encode()
        headers = [
            *more,
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.headers,
        ]
        lines = [b"HTTP/1.1 %d %s" % (self.status, self.status.phrase.encode())]
        return b"\r\n".join([*lines, *(name + b": " + value for name, value in headers), b"", body])


def problem_document(kind: str, status: HTTPStatus, detail: str) -> dict[str, object]:
    """The members of a problem document (RFC 9457, https://www.rfc-editor.org/rfc/rfc9457), as in the API."""
    title = kind.replace("-", " ").capitalize()
    return {"type": f"urn:segue:problem:{kind}", "title": title, "status": int(status), "detail": detail}


_AGAIN: Final = ((b"retry-after", b"5"),)

MALFORMED: Final = Refusal("malformed-request", HTTPStatus.BAD_REQUEST, "this is not a request in HTTP/1.1")
NO_UPGRADE: Final = Refusal("no-websocket", HTTPStatus.BAD_REQUEST, "no WebSocket is served here")
NO_TUNNEL: Final = Refusal("no-tunnel", HTTPStatus.NOT_IMPLEMENTED, "CONNECT is not possible here")
BODY_FRAMING: Final = Refusal(
    "body-framing", HTTPStatus.BAD_REQUEST, "the body has more chunk extensions and trailers than content"
)
LINE_TOO_LONG: Final = Refusal(
    "request-line-too-long", HTTPStatus.REQUEST_URI_TOO_LONG, "the request's path and query are too long"
)
HEADERS_TOO_LARGE: Final = Refusal(
    "headers-too-large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "the request has too many headers, or they are too long",
)
HEADERS_TOO_SLOW: Final = Refusal(
    "headers-too-slow", HTTPStatus.REQUEST_TIMEOUT, "the request's headers did not arrive in time"
)
BODY_TOO_SLOW: Final = Refusal(
    "body-too-slow", HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time, and nothing of it was taken"
)
TOO_MANY_PIPELINED: Final = Refusal(
    "too-many-pipelined",
    HTTPStatus.TOO_MANY_REQUESTS,
    "too many requests were sent before the first was answered; those without an answer were not taken",
    _AGAIN,
)
TOO_MANY_CONNECTIONS: Final = Refusal(
    "too-many-connections",
    HTTPStatus.TOO_MANY_REQUESTS,
    "too many connections from this address are open, with a request under way on each",
    _AGAIN,
)

BUSY: Final = Refusal(
    "too-many-requests-wait",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too many requests wait for their turn, and nothing of this one was taken; "
    "repeat it, with the same Idempotency-Key if it had one",
    _AGAIN,
)
