"""How providers sign their webhooks, by their documentation: fal with Ed25519, Replicate by Standard Webhooks. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import JsonValue

TOLERANCE_S: Final = 300
"""How far a signature's time may lie from ours, either way."""
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what a secret begins with


class NotFresh(Exception):
    """A webhook was signed too long ago, or in the future; the message says when."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a webhook says of itself: which delivery it is, when it was signed, and the signatures to check."""

    delivery_id: str
    signed_at: int
    """Unix time in seconds."""
    content: bytes
    signatures: tuple[bytes, ...]

    def require_fresh(self, now_s: float) -> None:
        """Raises NotFresh unless it was signed just now; an older one may be a replay."""
        age_s = now_s - self.signed_at
        if abs(age_s) > TOLERANCE_S:
            raise NotFresh(f"{abs(age_s):.0f} s {'ago' if age_s > 0 else 'in the future'}")


def fal_signed(headers: Mapping[str, str], body: bytes) -> Signed | None:
    """What fal signed; None where a header is missing or is not what it should be."""
    request_id, user_id, timestamp, signature = (
        headers.get(f"x-fal-webhook-{name}", "") for name in ("request-id", "user-id", "timestamp", "signature")
    )
    signed_at = _seconds(timestamp)
    if not request_id or signed_at is None:
        return None
    try:
        signatures = (bytes.fromhex(signature),)
    except ValueError:
        return None
    content = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode()
    return Signed(request_id, signed_at, content, signatures)


def fal_fits(signed: Signed, keys: Sequence[Ed25519PublicKey]) -> bool:
    """Whether one of fal's keys made the signature."""
    return any(_verifies(key, signature, signed.content) for key in keys for signature in signed.signatures)


def fal_keys(jwks: JsonValue) -> tuple[Ed25519PublicKey, ...]:
    """The keys in fal's JWKS; those of other kinds are passed over. Raises ValueError if there is none."""
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    found = [_public_key(each) for each in listed] if isinstance(listed, list) else []
    keys = tuple(key for key in found if key is not None)
    if not keys:
        raise ValueError("no Ed25519 key in the JWKS")
    return keys


def replicate_signed(headers: Mapping[str, str], body: bytes) -> Signed | None:
    """What Replicate signed; None where a header is missing or is not what it should be."""
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    signed_at = _seconds(timestamp)
    if not webhook_id or signed_at is None:
        return None
    listed = (each.partition(",") for each in headers.get("webhook-signature", "").split(" "))
    signatures = tuple(found for version, _, text in listed if version == "v1" and (found := _base64(text)))
    return Signed(webhook_id, signed_at, f"{webhook_id}.{timestamp}.".encode() + body, signatures)


def replicate_fits(signed: Signed, keys: Sequence[bytes]) -> bool:
    """Whether one of the secrets made one of the signatures."""
    right = [hmac.digest(key, signed.content, "sha256") for key in keys]
    return any(hmac.compare_digest(each, signature) for each in right for signature in signed.signatures)


def replicate_key(secret: str) -> bytes:
    """The key in a secret of the form whsec_…. Raises ValueError, which does not tell it, if it is none."""
    key = _base64(secret.strip().removeprefix(SECRET_PREFIX)) if secret.strip().startswith(SECRET_PREFIX) else None
    if not key:
        raise ValueError(f"must be {SECRET_PREFIX} and base64, as Replicate's API gives it")
    return key


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


def _seconds(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else None


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None
