"""The requests of one connection: each is parsed once, in order, however the stream is split into reads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from chassis.http.measured_requests import MeasuredRequests
from chassis.http.refusals import Refusal
from chassis.settings.http_limits import HttpLimits

HOST = b"Host: segue\r\n"
GET = b"GET /%d HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /%d HTTP/1.1\r\n" + HOST
REQUESTS = (
    GET,
    b"\r\n\r\n" + GET,
    GET[:-2] + b"X: \r\n" * 20 + b"\r\n",
    GET[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    POST + b"Content-Length: 0\r\n\r\n",
    POST + b"Content-Length: 8\r\n\r\n\r\n\r\n{}\r\n",
    POST + b"Content-Length: 40\r\n\r\n" + (GET % 999)[:40].ljust(40),
    POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\nX-Trailer: y\r\n\r\n",
)
BODIES = (b"", b"", b"", b"", b"", b"\r\n\r\n{}\r\n", (GET % 999)[:40].ljust(40), b"", b"\r\n\r\nabc", b"0\r\n\r\n")


class Connection(MeasuredRequests):
    """Runs no application: the test decides when a request is answered."""

    def __init__(self) -> None:
        super().__init__(Config(app=cast("Any", None)), ServerState(), HttpLimits())
        self.transport = cast("Any", SimpleNamespace(pause_reading=lambda: None, resume_reading=lambda: None))
        self.flow = FlowControl(self.transport)
        self.begun: list[str] = []
        self.bodies: list[bytes] = []
        self.refused: list[str] = []
        self.serving = False

    @property
    def response_pending(self) -> bool:
        return self.serving

    def close_with_refusal(self, why: Refusal) -> None:
        self.refused.append(why.kind)
        self.input_closed = True

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.begun.append(cycle.scope["path"])
        self.serving = True

    def answer(self) -> None:
        self.bodies.append(bytes(self.cycle.body))
        self.cycle.response_complete = True
        self.serving = False
        self.parse_held()


def cut(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(each % len(stream) for each in cuts)})
    return [stream[begin:end] for begin, end in pairwise(places)]


@given(st.lists(st.integers(0, len(REQUESTS) - 1), min_size=1, max_size=6), st.lists(st.integers(0, 5000), max_size=30))
async def test_requests_are_parsed_in_order_however_the_stream_is_split(kinds: list[int], cuts: list[int]) -> None:
    connection = Connection()
    stream = b"".join(REQUESTS[kind].replace(b"/%d", b"/%d" % n) for n, kind in enumerate(kinds))
    for piece in cut(stream, cuts):
        connection.receive(piece)
        assert len(connection.begun) <= len(connection.bodies) + 1
    while connection.serving:
        assert not connection.in_body
        connection.answer()
        assert len(connection.begun) <= len(connection.bodies) + 1
    assert connection.refused == []
    assert connection.begun == [f"/{n}" for n in range(len(kinds))]
    assert connection.bodies == [BODIES[kind] for kind in kinds]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1000])
async def test_pipelined_bytes_are_kept_unparsed(size: int) -> None:
    connection = Connection()
    connection.receive(GET % 0)
    ahead = b"".join(GET % n for n in range(1, 20)) + b"GET /half"
    for begin in range(0, len(ahead), size):
        connection.receive(ahead[begin : begin + size])
    assert connection.begun == ["/0"]
    assert connection.held == ahead
    assert connection.flow.read_paused


async def test_reading_stops_at_128_kib_of_pipelined_bytes() -> None:
    connection = Connection()
    connection.receive(GET % 0)
    connection.receive(bytes(131_072))
    assert connection.refused == []
    connection.receive(b"a")
    assert connection.refused == ["too-many-pipelined"]
