"""The signature scheme `contracts.providers.spec.Ed25519Jwks`: Ed25519 with the public keys of a JWKS. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import JsonValue

from gateway.signatures.signed import Signed, seconds


def read_signed(header_prefix: str, headers: Mapping[str, str], body: bytes) -> Signed | None:
    """The signed content and its signature; None if a header is missing or malformed."""
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
    """Whether the signature is valid for one of the keys."""
    return any(_verifies(key, signature, signed.content) for key in keys for signature in signed.signatures)


def keys_in(jwks: JsonValue) -> tuple[Ed25519PublicKey, ...]:
    """The Ed25519 keys in a JWKS (RFC 8037); others are skipped. Raises ValueError if there is none."""
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
        # Base64url in a JWK has no padding (RFC 7515 section 2), which Python's decoder requires.
        return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
    except ValueError:
        return None
