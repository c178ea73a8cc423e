"""Sorts of hostile connections: the bytes that each sends at first and then every second, and whether it reads."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HOST = b"Host: segue\r\n"
POST = b"POST /api/tracks HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
TRACK = b'{"prompt": "Warm ambient pad"}'
WAITS = POST + b"Idempotency-Key: strangers\r\nPrefer: wait=60\r\nContent-Length: %d\r\n\r\n" % len(TRACK) + TRACK
HALF = b"GET /api/jobs HTTP/1.1\r\n" + HOST + b"X-Half: "
ABSOLUTE = (b"http://example.com", b"http://example.com?x=1", b"http://a:99999/")
TLS_HELLO = bytes.fromhex("16030102000100 01fc0303".replace(" ", "")) + bytes(range(256)) + bytes(230)
MOST_BYTES = 300_000_000
_PIECE = 65_536


@dataclass(frozen=True)
class Sort:
    """One way to hold a connection, or to use up resources of the server."""

    first: Callable[[], Iterator[bytes]]
    """Sent as fast as the server reads; may have no end."""
    drip: bytes = b""
    """Sent every second after that."""
    reads: bool = True
    leaves: bool = False
    """Whether it aborts the connection soon after `first` has been sent."""


def _once(data: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter((data,))


def _then_for_ever(begin: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    many = piece * (_PIECE // len(piece))
    return lambda: itertools.chain((begin,), itertools.repeat(many, MOST_BYTES // len(many)))


def _noise() -> Iterator[bytes]:
    return iter((random.randbytes(512),))


SORTS: dict[str, Sort] = {
    "idle": Sort(_once(b"")),
    "idle-after-a-request": Sort(_once(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")),
    "half-line": Sort(_once(b"GET /api/jo")),
    "half-headers": Sort(_once(b"GET /api/jobs HTTP/1.1\r\n" + HOST + b"X-Half: ")),
    "slow-headers": Sort(_once(b"GET /api/jobs HTTP/1.1\r\n" + HOST + b"X-Slow: "), drip=b"a"),
    "large-half-headers": Sort(_once(b"GET /api/jobs HTTP/1.1\r\n" + HOST + b"X-Large: " + b"a" * 30_000), drip=b"a"),
    "slow-body": Sort(_once(POST + b"Content-Length: 5000\r\n\r\n{"), drip=b" "),
    "large-half-body": Sort(_once(POST + b"Content-Length: 60001\r\n\r\n" + b" " * 60_000)),
    "expects-100": Sort(_once(POST + b"Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n")),
    "huge-header": Sort(_then_for_ever(b"GET /api/jobs HTTP/1.1\r\n" + HOST + b"X-Huge: ", b"a")),
    "huge-path": Sort(_then_for_ever(b"GET /", b"a")),
    "many-headers": Sort(_then_for_ever(b"GET /api/jobs HTTP/1.1\r\n" + HOST, b"a: b\r\n")),
    "endless-line-breaks": Sort(_then_for_ever(b"\r\n", b"\r\n")),
    "chunk-extensions": Sort(_then_for_ever(CHUNKED + b"1;", b"a")),
    "trailers": Sort(_then_for_ever(CHUNKED + b"1\r\n{\r\n0\r\n", b"a: b\r\n")),
    "slow-reader": Sort(_once((b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 10), reads=False),
    "slow-reader-sends-more": Sort(
        _once((b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 10),
        drip=(b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 20,
        reads=False,
    ),
    "slow-reader-of-nonsense": Sort(
        _once(b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n" + bytes(100)), drip=bytes(100), reads=False
    ),
    "headers-ahead": Sort(
        _once(WAITS + (b"GET /livez HTTP/1.1\r\n" + HOST + b"a:\r\n" * 95 + b"\r\n") * 15 + HALF), drip=b"a"
    ),
    "half-body-ahead": Sort(
        _once(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n" + POST + b"Content-Length: 5000\r\n\r\n")
    ),
    "waiting-repeats": Sort(_once(WAITS)),
    "waiting-repeats-that-leave": Sort(_once(WAITS), leaves=True),
    "absolute-addresses": Sort(
        _once(b"".join(b"GET %s HTTP/1.1\r\n" % url + HOST + b"\r\n" for url in ABSOLUTE)),
    ),
    "bad-address-after-a-request": Sort(_once(WAITS + b"GET http://a:99999/ HTTP/1.1\r\n" + HOST + b"\r\n")),
    "pipelining": Sort(_then_for_ever(b"", b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")),
    "garbage": Sort(_noise),
    "tls": Sort(_once(TLS_HELLO)),
    "http2": Sort(_once(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(18))),
    "websocket": Sort(
        _once(
            b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    ),
}
