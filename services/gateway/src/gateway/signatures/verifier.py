"""Telling providers' own webhooks from what others send in their name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import httpx

from chassis.errors import CannotStart
from chassis.observability.logs import get_logger
from contracts.generation import Provider
from gateway.log_events import GatewayEvent
from gateway.signatures.keys import Fetch, SigningKeys, fetch_fal, fetch_replicate
from gateway.signatures.schemes import (
    Signed,
    fal_fits,
    fal_signed,
    replicate_fits,
    replicate_signed,
)

K = TypeVar("K")


class Verifier(Protocol):
    """Knows one provider's webhooks."""

    async def delivery_id(self, headers: Mapping[str, str], body: bytes, now_s: float) -> str | None:
        """The id of a webhook that the provider signed within the last minutes; None for any other.

        `headers` are looked up in lower case; `now_s` is Unix time. Raises KeysAway if that cannot be told now, and
        NotFresh of one that the provider signed at another time.
        """
        ...


class SignatureVerifier(Generic[K]):
    """Checks a signature against the provider's keys, and against those it may have changed to since."""

    def __init__(
        self,
        read: Callable[[Mapping[str, str], bytes], Signed | None],
        fits: Callable[[Signed, Sequence[K]], bool],
        keys: SigningKeys[K],
    ) -> None:
        self._read = read
        self._fits = fits
        self._keys = keys

    async def delivery_id(self, headers: Mapping[str, str], body: bytes, now_s: float) -> str | None:
        """The id of a genuine webhook, as `Verifier` says."""
        signed = self._read(headers, body)
        if signed is None:
            return None
        keys = await self._keys.current()
        if not self._fits(signed, keys) and not self._fits(signed, await self._keys.newer(keys)):
            return None
        signed.require_fresh(now_s)
        return signed.delivery_id


@asynccontextmanager
async def verifiers(
    *, fal_jwks_url: str, replicate_base_url: str, replicate_api_token: str | None, replicate_keys: tuple[bytes, ...]
) -> AsyncIterator[Mapping[Provider, Verifier]]:
    """A verifier for each provider. Without `replicate_keys` the token fetches them. Raises CannotStart."""
    try:
        client = httpx.AsyncClient(timeout=5)
    except OSError as error:
        raise CannotStart(f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {error.strerror or error}") from error
    async with client:
        if replicate_api_token is not None and not replicate_keys:
            replicate = fetch_replicate(client, replicate_base_url, replicate_api_token)
        else:
            replicate = _given(replicate_keys)
        yield {
            "fal": SignatureVerifier(fal_signed, fal_fits, SigningKeys(fetch_fal(client, fal_jwks_url))),
            "replicate": SignatureVerifier(replicate_signed, replicate_fits, SigningKeys(replicate)),
        }


def _given(keys: tuple[bytes, ...]) -> Fetch[bytes]:
    if not keys:
        get_logger("gateway").warning(GatewayEvent.CALLBACKS_UNVERIFIABLE, provider="replicate")

    async def fetch() -> tuple[bytes, ...]:
        if not keys:
            raise ValueError("neither a signing secret nor a token is set")
        return keys

    return fetch
