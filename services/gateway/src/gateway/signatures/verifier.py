"""Verifies the signatures of providers' callbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Generic, Protocol, TypeVar

import httpx

from chassis.errors import CannotStart
from chassis.observability.logs import get_logger
from contracts.generation import Provider
from contracts.providers.registry import PROVIDERS
from contracts.providers.spec import Ed25519Jwks, ProviderSpec, StandardWebhooks
from gateway.log_events import GatewayEvent
from gateway.signatures import ed25519_jwks, standard_webhooks
from gateway.signatures.keys import Fetch, SigningKeys, fetch_jwks, fetch_secret
from gateway.signatures.signed import Signed

K = TypeVar("K")


class Verifier(Protocol):
    """Verifies the callbacks of one provider."""

    async def delivery_id(self, headers: Mapping[str, str], body: bytes, now_s: float) -> str | None:
        """The delivery id of a callback with a valid signature; None if the signature is invalid.

        The names of `headers` are in lower case; `now_s` is Unix time in seconds. Raises NotFresh if a valid signature
        is not recent, and KeysAway if the keys cannot be fetched at present.
        """
        ...


class SignatureVerifier(Generic[K]):
    """Checks signatures against the provider's cached keys, and then against newly fetched ones."""

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
        """See `Verifier.delivery_id`."""
        signed = self._read(headers, body)
        if signed is None:
            return None
        keys = await self._keys.current()
        if not self._fits(signed, keys) and not self._fits(signed, await self._keys.newer(keys)):
            return None
        signed.require_fresh(now_s)
        return signed.delivery_id


@asynccontextmanager
async def verifiers(values: Mapping[str, str]) -> AsyncIterator[Mapping[Provider, Verifier]]:
    """A verifier for each provider. `values` are the settings that the specs name, by name. Raises CannotStart."""
    try:
        client = httpx.AsyncClient(timeout=5)
    except OSError as error:
        raise CannotStart(f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {error.strerror or error}") from error
    async with client:
        yield {name: _verifier(spec, values, client) for name, spec in PROVIDERS.items()}


def _verifier(spec: ProviderSpec, values: Mapping[str, str], client: httpx.AsyncClient) -> Verifier:
    match spec.signature:
        case Ed25519Jwks() as scheme:
            keys = SigningKeys(fetch_jwks(client, values[scheme.jwks_url.name]))
            return SignatureVerifier(partial(ed25519_jwks.read_signed, scheme.header_prefix), ed25519_jwks.fits, keys)
        case StandardWebhooks() as scheme:
            secrets = SigningKeys(_secrets(spec.name, scheme, values, client))
            return SignatureVerifier(standard_webhooks.read_signed, standard_webhooks.fits, secrets)


def _secrets(
    provider: Provider, scheme: StandardWebhooks, values: Mapping[str, str], client: httpx.AsyncClient
) -> Fetch[bytes]:
    """A function that returns the keys: those in the settings, or else, with an API token, from the provider's API."""
    secret, token = values.get(scheme.secret.name), values.get(scheme.api_token.name)
    if secret is None and token is not None:
        url = values[scheme.api_url.name].rstrip("/") + scheme.secret_path
        return fetch_secret(client, url, token)
    if secret is None:
        get_logger("gateway").warning(GatewayEvent.CALLBACKS_UNVERIFIABLE, provider=provider)
    keys = () if secret is None else standard_webhooks.keys_in(secret)

    async def fetch() -> tuple[bytes, ...]:
        if not keys:
            raise ValueError("neither a signing secret nor a token is set")
        return keys

    return fetch
