"""One output brought from a provider to a file on this machine: bounded, hashed, and resumed when the line breaks."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote_to_bytes

import httpx

from adapter_kit.media import Unusable
from chassis.egress import following

TRIES: Final = 4
PAUSE_S: Final = 0.1
"""Seconds to wait after the first break; doubles with each."""

_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Lost(Exception):
    """The provider answers, and does not have the output (any more)."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the provider answers {status} to the request for its output")
        self.status = status


class Unreachable(Exception):
    """The output could not be had now; later it may."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class _Broken(Exception):
    pass


async def download(client: httpx.AsyncClient, url: str, path: Path, max_bytes: int) -> str:
    """Write what `url` holds to `path`; its SHA-256 in hex.

    Raises Lost, Unreachable, Unusable (too large, no URL), EgressRefused, and OSError for `path`.
    """
    if url[:5].lower() == "data:":
        return await asyncio.to_thread(_write_data_url, url, path, max_bytes)
    with await asyncio.to_thread(path.open, "wb") as file:
        part = _Part(file, max_bytes)
        for tries in range(TRIES):
            if tries:
                await asyncio.sleep(PAUSE_S * 2 ** (tries - 1))
            try:
                await _fetch(client, url, part)
            except httpx.InvalidURL as error:
                raise Unusable("an output whose address is not a URL") from error
            except (httpx.TransportError, _Broken) as error:
                reason = type(error).__name__.lstrip("_")
            else:
                return part.digest.hexdigest()
    raise Unreachable(f"the output could not be fetched in {TRIES} tries; the last ended with {reason}")


class _Part:
    """What has come so far, and what is needed to ask for the rest."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self.start_over()

    def start_over(self, validator: str | None = None, total: int | None = None) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.size = 0
        self.digest = hashlib.sha256()
        self.validator = validator
        self.total = total

    def append(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self._max_bytes:
            raise Unusable(f"larger than {self._max_bytes} bytes")
        self.digest.update(chunk)
        self._file.write(chunk)

    def headers(self) -> dict[str, str]:
        # Compressed bytes could neither be resumed nor counted before they are unpacked.
        plain = {"accept-encoding": "identity"}
        if self.size and self.validator:
            return plain | {"range": f"bytes={self.size}-", "if-range": self.validator}
        return plain

    def continued_by(self, content_range: str) -> bool:
        found = _RANGE.fullmatch(content_range.strip())
        return found is not None and int(found[1]) == self.size and found[2] in ("*", str(self.total))


async def _fetch(client: httpx.AsyncClient, url: str, part: _Part) -> None:
    request = client.build_request("GET", url, headers=part.headers())
    async with following(client, request) as response:
        _check(response, part)
        async for chunk in response.aiter_raw():
            await asyncio.to_thread(part.append, chunk)
    if part.total not in (None, part.size):
        part.start_over()
        raise _Broken


def _check(response: httpx.Response, part: _Part) -> None:
    """Raises unless the body that follows is the output, or the rest of it."""
    status = response.status_code
    if status in (408, 425, 429) or status >= 500:
        raise Unreachable(f"the provider answers {status} to the request for its output", status)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Unusable("an output that was compressed without being asked for")
    if status == 206 and part.size and part.continued_by(response.headers.get("content-range", "")):
        return
    if status in (206, 416):
        part.start_over()
        raise _Broken
    if status != 200:
        raise Lost(status)
    length = response.headers.get("content-length", "")
    part.start_over(_validator(response.headers), int(length) if length.isdecimal() else None)


def _validator(headers: httpx.Headers) -> str | None:
    etag: str | None = headers.get("etag")
    last_modified: str | None = headers.get("last-modified")
    # A weak one holds for files that are alike, not the same.
    return etag if etag and not etag.startswith("W/") else last_modified


def _write_data_url(url: str, path: Path, max_bytes: int) -> str:
    header, comma, payload = url.partition(",")
    # Escaped or in base64, a byte takes at most three characters, so a longer text cannot fit.
    if len(payload) > 3 * max_bytes:
        raise Unusable(f"larger than {max_bytes} bytes")
    try:
        content = unquote_to_bytes(payload)
        if header.lower().endswith(";base64"):
            content = base64.b64decode(content, validate=True)
    except (binascii.Error, UnicodeError) as error:
        raise Unusable("a data URL that cannot be decoded") from error
    if not comma or len(content) > max_bytes:
        raise Unusable(f"larger than {max_bytes} bytes" if comma else "a data URL without data")
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
