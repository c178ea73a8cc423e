"""The HTTP transport below a provider's SDK: sends each request once, and records the exchange as it was.

An SDK retries, hides headers and stumbles over answers that it does not expect. Segue therefore lets it make the calls,
and judges the exchange that really took place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

import httpx
from pydantic import JsonValue

from adapter_kit.http.answer import Answer
from adapter_kit.http.body import LARGE_AT_ONCE, read_body
from adapter_kit.http.bounded_json import CUT
from adapter_kit.http.causes import causes

CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds to get a connection in, at most; a quarter of an answer's time-out if that is less.

So a host that cannot be reached shows as such, also after a try at a second one, before the call's time is over.
"""
LARGE_ANSWER_S: Final = 40.0
"""Seconds that the answer to a GET may take once it turns out to be a large one, if that is more than it had."""
MAX_CONNECTIONS: Final = 1000
MIN_SECRET_CHARS: Final = 8
"""What is shorter would be found in every other answer."""


@dataclass(slots=True)
class Exchange:
    """What one call of an SDK did on the wire."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers to add, for which the SDK has no parameter."""
    handed_over: bool = False
    """A request got as far as the network; before that, nothing can have been sent."""
    answer: Answer | None = None
    """The last answer that arrived whole."""
    error: BaseException | None = None
    """What the SDK raised, be it the network's error or its own dislike of the answer; of a group the first cause."""
    limit: asyncio.Timeout | None = None
    """When the call is given up."""

    def more_time(self) -> None:
        """Give a large answer the time that it takes to arrive."""
        until = asyncio.get_running_loop().time() + LARGE_ANSWER_S
        if self.limit is not None and (self.limit.when() or until) < until:
            self.limit.reschedule(until)


_BEFORE_SENDING: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


async def exchange(call: Awaitable[object], within_s: float, headers: Mapping[str, str] | None = None) -> Exchange:
    """Run one call of an SDK, for so many seconds at most, and say what it did on the wire; raises nothing."""
    done = Exchange(headers or {})
    token = _current.set(done)
    try:
        async with asyncio.timeout(within_s) as done.limit:
            await call
    except Exception as error:  # noqa: BLE001 - an SDK may fail in any way; what counts is what it did on the wire
        # If one of several may have come after the request was sent, that one counts.
        found = causes(error)
        done.error = next((each for each in found if not isinstance(each, _BEFORE_SENDING)), found[0])
    finally:
        _current.reset(token)
    return done


class RecordingTransport(httpx.AsyncBaseTransport):
    """Sends each request once, reads its answer to the end, and notes both in the exchange under way.

    A POST gets a connection of its own: the other end may close a kept one at the moment it is used again, and then
    nobody knows whether the POST arrived. Proxies and certificates are taken from the environment, as httpx does.
    """

    def __init__(self, secrets: tuple[str, ...], post_timeout_s: float, ask_timeout_s: float) -> None:
        tls = httpx.create_ssl_context()
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._secrets = tuple(secret.encode() for secret in secrets if len(secret) >= MIN_SECRET_CHARS)
        self._posts = httpx.AsyncClient(verify=tls, timeout=_timeouts(post_timeout_s), limits=_limits(keep=0))
        self._asks = httpx.AsyncClient(verify=tls, timeout=_timeouts(ask_timeout_s), limits=_limits(keep=100))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Raises httpx's errors. Of an answer that is very large, the large values are cut."""
        current = _current.get()
        if current is None:
            raise RuntimeError("the SDK sent a request that nobody asked for")
        client = self._posts if request.method == "POST" else self._asks
        request.headers.update(current.headers)
        # The SDKs' own time-outs are without end for the very requests that matter.
        request.extensions["timeout"] = client.timeout.as_dict()
        current.handed_over, current.answer = True, None
        response = await client.send(request, stream=True)
        try:
            more_time = current.more_time if request.method == "GET" else _no_more_time
            body = await read_body(response, self._large, more_time)
        finally:
            await response.aclose()
        # The body is decoded by now, so what said how it was encoded would mislead.
        headers = {name: value for name, value in response.headers.items() if name not in _ENCODING}
        told = self._without_secrets(body.content)
        current.answer = Answer(response.status_code, headers, told, complete=body.complete)
        return httpx.Response(response.status_code, headers=headers, content=body.content, request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._posts.aclose()
        await self._asks.aclose()

    def _without_secrets(self, body: bytes) -> bytes:
        for secret in self._secrets:
            body = body.replace(secret, b"***")
            # What was cut may have been cut in the middle of one.
            for size in range(len(secret) - 1, MIN_SECRET_CHARS - 1, -1):
                if body.endswith(secret[:size]):
                    body = body[:-size] + b"***"
                body = body.replace(secret[:size] + CUT, b"***" + CUT) if CUT in body else body
        return body


_ENCODING: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def checked_key(key: str) -> str:
    """The key without the space around it. Raises ValueError, which does not tell it, if no header can carry it."""
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("the key is empty or holds characters that no key has")
    return key


def is_sendable(arguments: Mapping[str, JsonValue]) -> bool:
    """Whether the arguments are JSON in UTF-8: without NaN, infinity, halves of characters, endless depth."""
    try:
        json.dumps(dict(arguments), allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _timeouts(read_s: float) -> httpx.Timeout:
    connect_s = min(CONNECT_TIMEOUT_S, read_s / 4)
    return httpx.Timeout(read_s, connect=connect_s, pool=connect_s)


def _limits(keep: int) -> httpx.Limits:
    return httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=keep)


def _no_more_time() -> None:
    """A POST has its own limit, after which its outcome counts as unclear."""
