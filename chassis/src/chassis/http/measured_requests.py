"""Parses the requests of a connection with uvicorn's parser, with limits on their size and number.

uvicorn does not limit headers, and its parser buffers a header until it is complete, so bytes are counted before they
are parsed. It also parses all the input it is given. So it gets no more than one request at a time; what was sent ahead
is held until that request is answered.
"""

from __future__ import annotations

from typing import Final, NoReturn

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from chassis.http import refusals
from chassis.http.refusals import Refusal
from chassis.settings.http_limits import HttpLimits

_FRAMING_PER_BYTE: Final = 8
"""In a body of one-byte chunks each byte has five bytes of framing (RFC 9112 section 7.1)."""
REQUEST_BYTES: Final = 2500
"""The memory that a request takes without its content, in bytes."""
FIELD_BYTES: Final = 140
"""The memory that a header takes besides its characters, in bytes."""
_MAX_HELD_BYTES: Final = 131_072
"""Bytes of further requests that a connection may send before the first is answered."""
_BLANK_LINE: Final = b"\r\n\r\n"
"""Ends headers, trailers and a chunked body (RFC 9112 sections 2.1 and 7.1); the parser accepts no bare LF."""


class _Refused(Exception):
    """Raised to stop the parser."""


class MeasuredRequests(HttpToolsProtocol):
    """Parses what a client sends, and refuses what exceeds a limit."""

    def __init__(self, config: Config, server_state: ServerState, limits: HttpLimits) -> None:
        super().__init__(config, server_state, {})
        self.limits = limits
        self.input_closed = False
        """No further input of this client is parsed."""
        self.head_bytes = 0
        """Bytes received of the next request's headers."""
        self.body_bytes = 0
        """Bytes received of the latest request's body, without its framing."""
        self.length: int | None = 0
        """The length of the latest request's body in bytes, from its headers; None if it is chunked."""
        self.in_body = False
        """The latest request has complete headers but no complete body."""
        self.in_new_body = False
        """As `in_body`, and the wait for the body has not been recorded yet."""
        self.held = b""
        """Input after a request that is not answered yet. It is not parsed until then."""
        self._parse_refusal = refusals.MALFORMED
        self._max_head_bytes = limits.request_line_bytes + limits.header_bytes
        self._in_head = self._phase_changed = False
        self._field_count = self._field_bytes = self._body_raw = 0
        self._tail = b""
        """The last bytes that were parsed: a blank line may arrive in several pieces."""

    @property
    def incomplete_head_bytes(self) -> int:
        """Upper bound of the memory that the incomplete headers take, in bytes."""
        return self.head_bytes + self._field_count * FIELD_BYTES if self._in_head else self.head_bytes

    @property
    def request_bytes(self) -> int:
        """The memory that the latest request takes, in bytes."""
        return REQUEST_BYTES + self._field_count * FIELD_BYTES + self._field_bytes + self.body_bytes

    def close_with_refusal(self, why: Refusal) -> None:
        """Close the connection with a response that gives the reason; unfinished requests are dropped."""
        raise NotImplementedError

    @property
    def response_pending(self) -> bool:
        """Whether a request is in progress or its response not read yet, so that the next one has to wait."""
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        """Parse received bytes up to the end of the current request, and hold the rest."""
        if self.held:
            self.held += data
        else:
            self._parse_requests(data)
        if self.held:
            self.flow.pause_reading()
            if len(self.held) > _MAX_HELD_BYTES:
                self.close_with_refusal(refusals.TOO_MANY_PIPELINED)

    def parse_held(self) -> None:
        """Parse the held input, as the previous request is answered."""
        held, self.held = self.held, b""
        self._parse_requests(held)
        if self.held:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _parse_requests(self, data: bytes) -> None:
        start = len(self._tail)
        data = self._tail + data
        while start < len(data) and not self.input_closed:
            if self.response_pending and not self.in_body:
                self.held = data[start:]
                break
            end = self._end_of_piece(data, start)
            if self.in_body:
                self._body_raw += end - start
            self._parse(memoryview(data)[start:end])
            start = end
        self._tail = data[max(0, start - len(_BLANK_LINE) + 1) : start]

    def _end_of_piece(self, data: bytes, start: int) -> int:
        """Where to stop parsing, so that at most one request is parsed."""
        if self.in_body and self.length is not None:
            return min(len(data), start + self.length - self.body_bytes)
        most = len(data) if self.in_body else min(len(data), start + self._max_head_bytes - self.head_bytes)
        # Line breaks before a request are ignored (RFC 9112 section 2.2), and count as one piece however many there
        # are.
        begin = start if self._in_head or self.in_body else len(data) - len(data[start:].lstrip(b"\r\n"))
        end = data.find(_BLANK_LINE, max(0, begin - len(_BLANK_LINE) + 1), most)
        return most if end < 0 else end + len(_BLANK_LINE)

    # Called by the parser.

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._field_count = self._field_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the path and query was received."""
        super().on_url(url)
        if len(self.url) > self.limits.request_line_bytes:
            self._stop(refusals.LINE_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header was received, or a trailer, which is ignored."""
        self._field_count += 1
        self._field_bytes += len(name) + len(value) + 4
        if self._field_count > self.limits.headers or self._field_bytes > self.limits.header_bytes:
            self._stop(refusals.HEADERS_TOO_LARGE)
        if not self.in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are complete; a body may follow."""
        self._in_head, self._phase_changed = False, True
        self.body_bytes = self._body_raw = 0
        headers = dict(self.headers)
        self.length = None if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))
        if self.parser.should_upgrade():
            return
        if not self.url.startswith(b"/"):
            self._complete_absolute_url()
        super().on_headers_complete()  # It raises for some addresses; then there is no request.
        self.in_body = self.in_new_body = True

    def on_body(self, body: bytes) -> None:
        """A part of the body was received."""
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self.in_body, self._phase_changed = False, True
        self.head_bytes = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    # Checks.

    def _parse(self, piece: memoryview) -> None:
        self._phase_changed = False
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._without_upgrade()
        except httptools.HttpParserError:
            self.close_with_refusal(self._parse_refusal)
        else:
            self._count(len(piece))

    def _count(self, parsed: int) -> None:
        if self.in_body:
            if self._body_raw > self.limits.header_bytes + _FRAMING_PER_BYTE * self.body_bytes:
                self.close_with_refusal(refusals.BODY_FRAMING)
            return
        self.head_bytes = 0 if self._phase_changed else self.head_bytes + parsed
        if self.head_bytes >= self._max_head_bytes:
            self.close_with_refusal(refusals.HEADERS_TOO_LARGE if self._in_head else refusals.MALFORMED)

    def _without_upgrade(self) -> None:
        """Handle a request for a protocol upgrade as an ordinary request, as RFC 9110 section 7.8 allows.

        Clients offer HTTP/2 in this way, and the parser leaves the body of such a request to the other protocol.
        """
        method = self.parser.get_method()
        if method == b"CONNECT" or any(n == b"upgrade" and b"websocket" in v.lower() for n, v in self.headers):
            self.close_with_refusal(refusals.NO_TUNNEL if method == b"CONNECT" else refusals.NO_UPGRADE)
            return
        lines = [method + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        lines += [n + b": " + v for n, v in self.headers if n not in {b"upgrade", b"connection"}]
        if any(n == b"connection" and b"close" in v.lower() for n, v in self.headers):
            lines.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._parse(memoryview(b"\r\n".join([*lines, b"", b""])))

    def _complete_absolute_url(self) -> None:
        """Complete an absolute URL without a path (RFC 9112 section 3.2.2): it refers to the root."""
        url = httptools.parse_url(self.url)
        if not url.path:
            self.url = b"/?" + url.query if url.query else b"/"

    def _stop(self, why: Refusal) -> NoReturn:
        self._parse_refusal = why
        raise _Refused
