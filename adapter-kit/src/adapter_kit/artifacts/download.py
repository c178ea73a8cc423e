"""Download of one output into a spool, with a size limit, and resumption after a broken connection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx

from adapter_kit.artifacts.spool import Spool
from adapter_kit.artifacts.unwrapping import TooLarge
from adapter_kit.http.causes import error_word, status_word
from adapter_kit.http.decoding import codings_of
from adapter_kit.media.inspect import Unusable
from adapter_kit.media.integrity import is_whole
from adapter_kit.port.outcomes import ErrorWord
from adapter_kit.results.data_urls import NotData, data_in, data_url
from chassis.http.egress import following
from chassis.runtime.retry import retry

TRIES: Final = 4
PAUSE_S: Final = 0.1
"""Seconds to wait after the first broken connection; doubled after each further one."""
LONGEST_PAUSE_S: Final = 1.0
FRAMING_BYTES: Final = 1024 * 1024
"""How much larger than the output its encoded form may be, in bytes."""

_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_BODIES: Final = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NON_AUTHORITATIVE_INFORMATION})
"""Status codes whose body is the complete resource."""
_NO_CONNECTION: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Lost(Exception):
    """The provider responded that it does not have the output; it may not exist yet, or have been deleted."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the provider answers {status} to the request for its output")
        self.status = status
        self.word = status_word(status)


class Unreachable(Exception):
    """The output could not be fetched; a retry may succeed."""

    def __init__(self, reason: str, word: ErrorWord, status: int | None = None) -> None:
        super().__init__(reason)
        self.word = word
        self.status = status


class Unconnected(Unreachable):
    """No connection could be made to the host of the output, or of a redirect."""

    def __init__(self, host: str, error: httpx.RequestError) -> None:
        super().__init__(f"no connection to {host or 'its host'} could be made ({type(error).__name__})", "connect")
        self.host = host
        self.why = str(error)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was said of the output that was downloaded."""

    codings: list[str]
    """The codings in the Content-Encoding header."""
    content_type: str | None
    """The value of the Content-Type header, or of the data URL."""


class _Broken(Exception):
    pass


class _Silent(Exception):
    """Nothing came for the whole of a time limit. It is not tried again here, where nobody would see it for minutes."""

    def __init__(self, error: httpx.TimeoutException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


async def download(
    client: httpx.AsyncClient, url: str, spool: Spool, max_bytes: int, connected: Callable[[], None]
) -> Fetched:
    """Write the content of `url`, as it is sent, to `spool`, which is empty.

    If it is cancelled, a thread may go on with `spool` until that is closed. `connected` is called on every connection
    to the host of the output. Raises Lost, Unreachable, Unconnected, TooLarge, Unusable if `url` is not a URL or its
    data is malformed, EgressRefused, and OSError for `spool`.
    """
    if (head := data_url(url)) is not None:
        connected()
        await asyncio.to_thread(_write_data_url, url, spool, max_bytes)
        return Fetched([], head.content_type)
    part = _Part(spool, max_bytes)
    await _fetch_whole(client, url, part, connected)
    return Fetched(part.codings, part.content_type)


class _Part:
    """The bytes received so far, and what is needed to request the rest."""

    def __init__(self, spool: Spool, max_bytes: int) -> None:
        self._spool = spool
        self._max_bytes = max_bytes
        self._given_up: set[tuple[int, str]] = set()
        self.start_over()

    @property
    def size(self) -> int:
        return self._spool.size

    def start_over(self, headers: httpx.Headers | None = None, total: int | None = None) -> None:
        headers = headers or httpx.Headers()
        self._spool.clear()
        self.total = total
        self.content_type: str | None = headers.get("content-type")
        self.codings = codings_of(headers.get("content-encoding", ""))
        # The next response may be compressed differently, so that parts of compressed bodies cannot be joined.
        self.validator = None if self.codings else _validator(headers)

    async def append(self, chunk: bytes) -> None:
        if self.size + len(chunk) > self._max_bytes + (FRAMING_BYTES if self.codings else 0):
            raise TooLarge(self._max_bytes)
        # To pass one chunk to a thread costs more than the few kilobytes of it.
        if self._spool.hold(chunk):
            await asyncio.to_thread(self._spool.write)

    def headers(self) -> dict[str, str]:
        # A compressed body can neither be resumed, nor checked against the size limit before it is decoded.
        plain = {"accept-encoding": "identity"}
        if self.size and self.validator:
            return plain | {"range": f"bytes={self.size}-", "if-range": self.validator}
        return plain

    def is_whole(self) -> bool:
        """Whether the output is complete, although its response broke off: its declared length is wrong then.

        It is if an earlier response broke off after exactly the same bytes, and they are complete by their own format.
        Blocks.
        """
        so_far = (self.size, self._spool.sha256())
        if so_far in self._given_up:
            return self.size > 0 and not self.codings and is_whole(self._spool.file())
        self._given_up.add(so_far)
        return False


async def _fetch_whole(client: httpx.AsyncClient, url: str, part: _Part, connected: Callable[[], None]) -> None:
    was_connected = False

    async def fetch() -> None:
        nonlocal was_connected
        before = part.size
        try:
            await _fetch(client, url, part, connected)
        except (httpx.RequestError, _Broken) as error:
            if not isinstance(error, _NO_CONNECTION):
                was_connected = True
                connected()
            if not await asyncio.to_thread(part.is_whole):
                if isinstance(error, httpx.TimeoutException) and part.size == before:
                    raise _Silent(error) from error
                raise

    try:
        await retry(fetch, (httpx.RequestError, _Broken), pause_s=PAUSE_S, longest_pause_s=LONGEST_PAUSE_S, tries=TRIES)
    except httpx.InvalidURL as error:
        raise Unusable("an output whose address is not a URL") from error
    except (httpx.RequestError, _Broken, _Silent) as error:
        cause = error.error if isinstance(error, _Silent) else error
        if isinstance(cause, _NO_CONNECTION) and not was_connected:
            raise Unconnected(cause.request.url.host, cause) from error
        reason = type(cause).__name__.lstrip("_")
        word: ErrorWord = "broken_off" if isinstance(cause, _Broken) else error_word(cause)
        raise Unreachable(f"the output could not be fetched; the last try ended with {reason}", word) from error


async def _fetch(client: httpx.AsyncClient, url: str, part: _Part, connected: Callable[[], None]) -> None:
    request = client.build_request("GET", url, headers=part.headers())
    async with following(client, request) as response:
        connected()
        if _is_complete(response, part):
            return
        async for chunk in response.aiter_raw():
            await part.append(chunk)
    if part.total not in (None, part.size):
        raise _Broken


def _is_complete(response: httpx.Response, part: _Part) -> bool:
    """Whether the output is complete already. Raises unless the body is the output or the rest of it."""
    status = response.status_code
    if status in (408, 425, 429) or status >= 500:
        raise Unreachable(f"the provider answers {status} to the request for its output", status_word(status), status)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        if part.size and response.headers.get("content-range", "").strip() == f"bytes */{part.size}":
            return True
        part.start_over()
        raise _Broken
    if status == HTTPStatus.PARTIAL_CONTENT:
        _begin_part(response, part)
    elif status in _BODIES:
        part.start_over(response.headers, _length(response.headers))
    else:
        raise Lost(status)
    return False


def _begin_part(response: httpx.Response, part: _Part) -> None:
    """Start to read a 206 response: the rest of the output, or all of it from the beginning."""
    told = _RANGE.fullmatch(response.headers.get("content-range", "").strip())
    start, total = (int(told[1]), told[3]) if told else (0, "*")
    known = int(total) if total != "*" else None
    if part.size and told and start == part.size and known in (None, part.total):
        return
    if part.size or start:
        part.start_over()
        raise _Broken
    part.start_over(response.headers, known)


def _length(headers: httpx.Headers) -> int | None:
    length = headers.get("content-length", "")
    # With a Transfer-Encoding, Content-Length is ignored (RFC 9112 §6.3).
    return int(length) if length.isdecimal() and "transfer-encoding" not in headers else None


def _validator(headers: httpx.Headers) -> str | None:
    etag: str | None = headers.get("etag")
    last_modified: str | None = headers.get("last-modified")
    # A weak validator does not guarantee identical bytes (RFC 9110 §8.8.1).
    return etag if etag and not etag.startswith("W/") else last_modified


def _write_data_url(url: str, spool: Spool, max_bytes: int) -> None:
    # A byte takes at most three characters, percent-encoded or in base64, so that a longer text exceeds the limit.
    if len(url) > 3 * max_bytes + 4096:
        raise TooLarge(max_bytes)
    try:
        content = data_in(url)
    except NotData as error:
        raise Unusable(str(error)) from error
    if len(content) > max_bytes:
        raise TooLarge(max_bytes)
    spool.append(content)
