"""Webhooks that are signed with Ed25519, by keys of a JWKS: `contracts.providers.spec.Ed25519Jwks`. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import JsonValue

from gateway.signatures.signed import Signed, seconds


def read_signed(header_prefix: str, headers: Mapping[str, str], body: bytes) -> Signed | None:
    """What was signed; None where a header is missing or is not what it should be."""
    request_id, user_id, timestamp, signature = (
        headers.get(f"{header_prefix}{name}", "") for name in ("request-id", "user-id", "timestamp", "signature")
    )
    signed_at = seconds(timestamp)
    if not request_id or signed_at is None:
        return None
    try:
        signatures = (bytes.fromhex(signature),)
    except ValueError:
        return None
    content = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode()
    return Signed(request_id, signed_at, content, signatures)


def fits(signed: Signed, keys: Sequence[Ed25519PublicKey]) -> bool:
    """Whether one of the keys made the signature."""
    return any(_verifies(key, signature, signed.content) for key in keys for signature in signed.signatures)


def keys_in(jwks: JsonValue) -> tuple[Ed25519PublicKey, ...]:
    """The keys in a JWKS; those of other kinds are passed over. Raises ValueError if there is none."""
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    found = [_public_key(each) for each in listed] if isinstance(listed, list) else []
    keys = tuple(key for key in found if key is not None)
    if not keys:
        raise ValueError("no Ed25519 key in the JWKS")
    return keys


def _verifies(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _public_key(jwk: JsonValue) -> Ed25519PublicKey | None:
    if not isinstance(jwk, dict) or (jwk.get("kty"), jwk.get("crv")) != ("OKP", "Ed25519"):
        return None
    x = jwk.get("x")
    if not isinstance(x, str):
        return None
    try:
        # JWKs come without the padding that Python's decoder insists on.
        return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
    except ValueError:
        return None
