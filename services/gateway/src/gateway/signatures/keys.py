"""The keys for providers' signatures: cached for a day, and fetched again when a signature does not match them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Final, Generic, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import JsonValue

from chassis.observability.logs import get_logger
from gateway.log_events import GatewayEvent
from gateway.signatures import ed25519_jwks, standard_webhooks

MAX_AGE_S: Final = 24 * 3600.0
REFETCH_FLOOR_S: Final = 10.0
"""Seconds between two fetches because of an invalid signature, since anybody can send invalid signatures."""
FAILURE_FLOOR_S: Final = 1.0
"""Seconds after a failed fetch in which no other is tried."""
FETCH_LIMIT_S: Final = 5.0
MAX_DOCUMENT_BYTES: Final = 64 * 1024

K = TypeVar("K")
Fetch = Callable[[], Awaitable[tuple[K, ...]]]
"""Fetches all keys that are valid now. Raises the errors of httpx, TimeoutError and ValueError."""


class KeysAway(Exception):
    """The keys cannot be fetched at present, so a signature can be neither accepted nor rejected."""


class SigningKeys(Generic[K]):
    """The cached keys of one provider."""

    def __init__(self, fetch: Fetch[K], clock: Callable[[], float] = monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._keys: tuple[K, ...] = ()
        self._fetched_at = self._renewed_at = self._failed_at = float("-inf")

    async def current(self) -> tuple[K, ...]:
        """The keys, fetched at most a day ago. Raises KeysAway."""
        async with self._lock:
            if self._clock() - self._fetched_at > MAX_AGE_S:
                await self._renew()
            return self._keys

    async def newer(self, known: tuple[K, ...]) -> tuple[K, ...]:
        """The current keys if they differ from `known`, else none. Raises KeysAway.

        Fetches them again unless that was tried within the last `REFETCH_FLOOR_S` seconds.
        """
        async with self._lock:
            if self._keys == known and self._clock() - self._renewed_at >= REFETCH_FLOOR_S:
                self._renewed_at = self._clock()
                await self._renew()
            if self._keys == known and self._failed_at >= self._renewed_at:
                raise KeysAway("the last attempt to fetch newer ones failed")
            return self._keys if self._keys != known else ()

    async def _renew(self) -> None:
        if self._clock() - self._failed_at < FAILURE_FLOOR_S:
            raise KeysAway("the last attempt to fetch them failed a moment ago")
        try:
            async with asyncio.timeout(FETCH_LIMIT_S):
                self._keys = await self._fetch()
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            self._failed_at = self._clock()
            reason = _reason(error)
            get_logger("gateway.signatures.keys").warning(GatewayEvent.SIGNING_KEYS_NOT_FETCHED, error=reason)
            raise KeysAway(reason) from error
        self._fetched_at = self._clock()


def _reason(error: Exception) -> str:
    """The type of the error, and the status of the answer; its text may contain the URL or a part of the answer."""
    status = f" {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else ""
    return f"{type(error).__name__}{status}"


def fetch_jwks(client: httpx.AsyncClient, jwks_url: str) -> Fetch[Ed25519PublicKey]:
    """A function that fetches the public keys of a JWKS."""

    async def fetch() -> tuple[Ed25519PublicKey, ...]:
        return ed25519_jwks.keys_in(await _document(client, jwks_url, {}))

    return fetch


def fetch_secret(client: httpx.AsyncClient, url: str, token: str) -> Fetch[bytes]:
    """A function that fetches the account's signing secret: the member `key` of a JSON object at the URL."""

    async def fetch() -> tuple[bytes, ...]:
        document = await _document(client, url, {"Authorization": f"Bearer {token}"})
        secret = document.get("key") if isinstance(document, dict) else None
        return standard_webhooks.keys_in(secret if isinstance(secret, str) else "")

    return fetch


async def _document(client: httpx.AsyncClient, url: str, headers: Mapping[str, str]) -> JsonValue:
    body = bytearray()
    async with client.stream("GET", url, headers=headers) as response:
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                raise ValueError("the answer is too large")
    try:
        document: JsonValue = json.loads(body)
    except RecursionError as error:
        raise ValueError("the answer is nested too deep") from error
    return document
