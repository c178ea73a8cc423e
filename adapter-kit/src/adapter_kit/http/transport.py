"""The HTTP transport below a provider's SDK: sends each request once and records the exchange.

An SDK retries, hides headers and fails on responses that it does not expect. Segue therefore makes its calls through
the SDK, but evaluates the recorded exchange.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

import httpx
from opentelemetry import trace
from pydantic import JsonValue

from adapter_kit.http.answer import Answer
from adapter_kit.http.body import LARGE_AT_ONCE, read_body
from adapter_kit.http.bounded_json import CUT
from adapter_kit.http.causes import causes, forget_frames
from adapter_kit.http.network import open_network

CONNECT_TIMEOUT_S: Final = 5.0
"""Connect timeout in seconds; a quarter of the read timeout if that is less.

So the error for an unreachable host is raised before the call's timeout, even after a second address was tried.
"""
LARGE_ANSWER_S: Final = 40.0
"""Seconds allowed for the rest of a large response to a GET, if that extends the call's timeout."""
MIN_SECRET_CHARS: Final = 8
"""Shorter secrets are not masked: they would match unrelated text."""


@dataclass(slots=True)
class Exchange:
    """The HTTP exchange of one SDK call."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Additional request headers for which the SDK has no parameter."""
    handed_over: bool = False
    """A request reached the network client; while False, nothing can have been sent."""
    answer: Answer | None = None
    """The last response that was received completely."""
    error: BaseException | None = None
    """The error that the SDK raised, from the network or about the response; the decisive one of an exception group."""
    limit: asyncio.Timeout | None = None
    """The timeout of the call."""

    def more_time(self) -> None:
        """Extend the timeout to `LARGE_ANSWER_S` from now, for a large response."""
        until = asyncio.get_running_loop().time() + LARGE_ANSWER_S
        if self.limit is not None and (self.limit.when() or until) < until:
            self.limit.reschedule(until)


_BEFORE_SENDING: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


async def exchange(call: Awaitable[object], within_s: float, headers: Mapping[str, str] | None = None) -> Exchange:
    """Run one SDK call for at most `within_s` seconds and return its HTTP exchange. Raises nothing."""
    done = Exchange(headers or {})
    token = _current.set(done)
    try:
        async with asyncio.timeout(within_s) as done.limit:
            await call
    except Exception as error:  # noqa: BLE001 - an SDK may fail in any way; the exchange is evaluated
        # An error that may have occurred after the request was sent takes precedence.
        found = causes(error)
        done.error = next((each for each in found if not isinstance(each, _BEFORE_SENDING)), found[0])
        forget_frames(error)
    finally:
        _current.reset(token)
        done.limit = None
    return done


class RecordingTransport(httpx.AsyncBaseTransport):
    """Sends each request once, reads its response to the end, and records both in the current exchange.

    An idle connection is kept for less time than servers keep it: if one closes it at the moment it is reused, it is
    unknown whether a POST arrived. Proxies and certificates are taken from the environment, as httpx does.
    """

    def __init__(self, secrets: tuple[str, ...], post_timeout_s: float, ask_timeout_s: float) -> None:
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._secrets = tuple(secret.encode() for secret in secrets if len(secret) >= MIN_SECRET_CHARS)
        self._network = open_network()
        self._post_timeout, self._ask_timeout = _timeouts(post_timeout_s), _timeouts(ask_timeout_s)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its response, with the large values of a very large body truncated.

        Raises httpx's errors, and RuntimeError outside `exchange`.
        """
        current = _current.get()
        if current is None:
            raise RuntimeError("the SDK sent a request outside of an exchange")
        request.headers.update(current.headers)
        # For some requests the SDKs set no timeout at all.
        request.extensions["timeout"] = self._post_timeout if request.method == "POST" else self._ask_timeout
        current.handed_over, current.answer = True, None
        span = trace.get_current_span()
        span.set_attribute("server.address", request.url.host)
        response = await self._network.handle_async_request(request)
        span.set_attribute("http.response.status_code", response.status_code)
        try:
            more_time = current.more_time if request.method == "GET" else _no_more_time
            body = await read_body(response, self._large, more_time)
        finally:
            await response.aclose()
        # The body is already decoded, so these headers no longer describe it.
        headers = {name: value for name, value in response.headers.items() if name not in _ENCODING}
        masked = self._without_secrets(body.content)
        current.answer = Answer(response.status_code, headers, masked, complete=body.complete)
        return httpx.Response(response.status_code, headers=headers, content=body.content, request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._network.aclose()

    def _without_secrets(self, body: bytes) -> bytes:
        for secret in self._secrets:
            body = body.replace(secret, b"***")
            # A truncated string may end within a secret.
            for size in range(len(secret) - 1, MIN_SECRET_CHARS - 1, -1):
                if body.endswith(secret[:size]):
                    body = body[:-size] + b"***"
                body = body.replace(secret[:size] + CUT, b"***" + CUT) if CUT in body else body
        return body


_ENCODING: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def checked_key(key: str) -> str:
    """The key without surrounding whitespace.

    Raises ValueError, without the key in its message, if the key cannot be sent in a header.
    """
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("the key is empty or contains characters that are not allowed in a header")
    return key


def is_sendable(arguments: Mapping[str, JsonValue]) -> bool:
    """Whether the arguments can be sent as JSON in UTF-8: no NaN, infinity, lone surrogates or excessive depth."""
    try:
        json.dumps(dict(arguments), allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _timeouts(read_s: float) -> dict[str, float | None]:
    connect_s = min(CONNECT_TIMEOUT_S, read_s / 4)
    return httpx.Timeout(read_s, connect=connect_s, pool=connect_s).as_dict()


def _no_more_time() -> None:
    """The timeout of a POST is fixed; after it the outcome is unclear."""
