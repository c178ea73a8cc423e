"""The requests of one connection as they arrive, with limits on their size and number, on uvicorn's parser.

uvicorn has no limit on headers, and its parser keeps what it is fed of a header until that is complete: so bytes are
counted before it is fed.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NoReturn

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from chassis.http import refusals
from chassis.http.refusals import Refusal
from chassis.settings.http_limits import HttpLimits

_FRAMING_PER_BYTE: Final = 8
"""A body of one-byte chunks has five bytes of framing a byte (RFC 9112 section 7.1)."""
REQUEST_BYTES: Final = 2500
"""What a request takes in memory, whatever it says."""
FIELD_BYTES: Final = 140
"""What each of its headers takes beside its characters."""
_MOST_AHEAD: Final = 131_072
"""Bytes of requests that one connection may have waiting for their turn: sixteen of some thirty headers each."""


class _Refused(Exception):
    """Stops the parser."""


class MeasuredRequests(HttpToolsProtocol):
    """Parses what a client sends, and refuses what breaks a limit."""

    def __init__(self, config: Config, server_state: ServerState, limits: HttpLimits) -> None:
        super().__init__(config, server_state, {})
        self.limits = limits
        self.over = False
        """Nothing more of what this client sends is parsed."""
        self.head_bytes = 0
        """What has arrived of the next request's headers."""
        self.body_bytes = 0
        """What has arrived of the latest request's body, without its framing."""
        self.in_body = False
        """The latest request has headers, and is not complete."""
        self.in_new_body = False
        """… and nobody has begun to wait for its body."""
        self.ahead: deque[int] = deque()
        """What each request in the pipeline takes in memory, in its order."""
        self._why = refusals.MALFORMED
        self._most_head = limits.request_line_bytes + limits.header_bytes
        self._in_head = self._turned = False
        self._fields = self._field_bytes = self._body_raw = self._head_raw = 0

    @property
    def begun_bytes(self) -> int:
        """What the headers that have begun to arrive take in memory, at most."""
        return self._head_raw + self._fields * FIELD_BYTES if self._in_head else self.head_bytes

    @property
    def request_bytes(self) -> int:
        """What the latest request takes in memory."""
        return REQUEST_BYTES + self._fields * FIELD_BYTES + self._field_bytes + self.body_bytes

    def refuse(self, why: Refusal) -> None:
        """End the connection with an answer that says why. No request was taken of what has arrived since the last."""
        raise NotImplementedError

    def take(self, data: memoryview) -> None:
        """Parse what has arrived."""
        if self.in_body:
            self._body_raw += len(data)
        while data and not self.over:
            room = len(data) if self.in_body else self._most_head - self.head_bytes
            piece, data = data[:room], data[room:]
            self._parse(piece)

    # What the parser says.

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= self.limits.pipelined or sum(self.ahead) >= _MOST_AHEAD:
            self._stop(refusals.TOO_MANY_PIPELINED)
        super().on_message_begin()
        self._in_head = True
        self._fields = self._field_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the path and query."""
        super().on_url(url)
        if len(self.url) > self.limits.request_line_bytes:
            self._stop(refusals.LINE_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which nobody reads."""
        self._fields += 1
        self._field_bytes += len(name) + len(value) + 4
        if self._fields > self.limits.headers or self._field_bytes > self.limits.header_bytes:
            self._stop(refusals.HEADERS_TOO_LARGE)
        if not self.in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request is there, and perhaps its body."""
        self._in_head, self._turned = False, True
        self.body_bytes = self._body_raw = 0
        if self.parser.should_upgrade():
            return
        if not self.url.startswith(b"/"):
            self._take_absolute()
        super().on_headers_complete()  # It raises for some addresses; then there is no request.
        self.in_body = self.in_new_body = True
        if self._is_ahead():
            self.ahead.appendleft(self.request_bytes)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self.body_bytes += len(body)
        if self._is_ahead():
            self.ahead[0] = self.request_bytes
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self.in_body, self._turned = False, True
        self.head_bytes = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    # How it is judged.

    def _parse(self, piece: memoryview) -> None:
        self._turned = False
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._without_upgrade(piece[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.refuse(self._why)
        else:
            self._count(len(piece))

    def _count(self, parsed: int) -> None:
        if self.in_body:
            if self._body_raw > self.limits.header_bytes + _FRAMING_PER_BYTE * self.body_bytes:
                self.refuse(refusals.BODY_FRAMING)
            return
        self.head_bytes = int(self._in_head) if self._turned else self.head_bytes + parsed
        self._head_raw = parsed if self._turned else self._head_raw + parsed
        if self.head_bytes >= self._most_head:
            self.refuse(refusals.HEADERS_TOO_LARGE if self._in_head else refusals.MALFORMED)

    def _without_upgrade(self, rest: memoryview) -> None:
        """Take a request that would change the protocol as one that would not (RFC 9110 section 7.8 allows it).

        Clients offer HTTP/2 like that, and the parser leaves the body of such a request to the other protocol.
        """
        method = self.parser.get_method()
        if method == b"CONNECT" or any(n == b"upgrade" and b"websocket" in v.lower() for n, v in self.headers):
            self.refuse(refusals.NO_TUNNEL if method == b"CONNECT" else refusals.NO_UPGRADE)
            return
        lines = [method + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        lines += [n + b": " + v for n, v in self.headers if n not in {b"upgrade", b"connection"}]
        if any(n == b"connection" and b"close" in v.lower() for n, v in self.headers):
            lines.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._parse(memoryview(b"\r\n".join([*lines, b"", b""])))
        if rest and not self.over:
            self._parse(rest)

    def _take_absolute(self) -> None:
        """An address that names a host may have no path (RFC 9112 section 3.2.2), and means the root then."""
        url = httptools.parse_url(self.url)
        if not url.path:
            self.url = b"/?" + url.query if url.query else b"/"

    def _is_ahead(self) -> bool:
        return bool(self.pipeline) and self.pipeline[0][0] is self.cycle

    def _stop(self, why: Refusal) -> NoReturn:
        self._why = why
        raise _Refused
