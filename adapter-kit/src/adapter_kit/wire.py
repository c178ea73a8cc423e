"""The seam under a provider's SDK: its HTTP requests go out here, once each, and what came of them is kept as it was.

An SDK retries, hides headers and stumbles over answers that it does not expect. Segue therefore lets it make the calls,
and judges the exchange that really took place.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

import httpx
from pydantic import JsonValue

from adapter_kit.answer_body import LARGE_AT_ONCE, read_body
from adapter_kit.bounded_json import CUT
from adapter_kit.causes import causes
from chassis.http.callback_urls import without_mac

CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds to get a connection in, at most; a quarter of an answer's time-out if that is less.

So a host that cannot be reached shows as such, also after a try at a second one, before the call's time is over.
"""
LARGE_ANSWER_S: Final = 40.0
"""Seconds that the answer to a GET may take once it turns out to be a large one, if that is more than it had."""
MAX_CONNECTIONS: Final = 1000
MAX_WORDS: Final = 2000
MAX_PAGE_CHARS: Final = 20_000
"""How much of a page is read for its words."""
MIN_SECRET_CHARS: Final = 8
"""What is shorter would be found in every other answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole HTTP answer, without the secrets it may have echoed; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True
    """Nothing that counts was left out of it for its size."""

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text, whatever it holds."""
        return self.body.decode("utf-8", "replace")

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON, `null` among it."""
        return self.json() is not None or self.body.strip() == b"null"

    def json(self) -> JsonValue:
        """The body as JSON; None where it is none."""
        return _json(self.body)

    def document(self) -> dict[str, JsonValue]:
        """The body as a JSON object; empty where it is none."""
        return json_object(self.body)


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


class Wire(httpx.AsyncBaseTransport):
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


def json_object(text: str | bytes) -> dict[str, JsonValue]:
    """A JSON object; empty where the text is none."""
    value = _json(text)
    return value if isinstance(value, dict) else {}


def _json(text: str | bytes) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def words(text: str) -> str:
    """What a provider or a library said, fit to be stored and shown: bounded, without NUL and lone surrogates.

    Providers echo where they were told to call back; what signs those addresses is left out. Of a page, as proxies send
    them, only what a browser would show is kept.
    """
    shown = _shown_of(text) if _PAGE.search(text, 0, MAX_WORDS) else text
    return without_mac(shown).replace("\x00", "").encode("utf-8", "replace").decode().strip()[:MAX_WORDS]


def raw_text(text: str) -> str:
    """What a provider answered, to be kept as it is: without what signs addresses, control characters and halves."""
    plain = _CONTROLS.sub("", without_mac(text[: 4 * MAX_WORDS]))
    return plain.encode("utf-8", "replace").decode()[:MAX_WORDS]


_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class _Shown(HTMLParser):
    """The text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in _HIDDEN

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN

    def handle_data(self, data: str) -> None:
        if self._hidden <= 0:
            self.texts.append(data)


def _shown_of(page: str) -> str:
    reader = _Shown()
    reader.feed(page[:MAX_PAGE_CHARS])
    return " ".join(" ".join(reader.texts).split()) or "a page without words"


_PAGE: Final = re.compile(r"<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_HIDDEN: Final = frozenset({"script", "style"})
