"""The signature scheme of Standard Webhooks, with HMAC-SHA256. Pure.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.signatures.signed import Signed, seconds

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - a prefix, not a secret


def read_signed(headers: Mapping[str, str], body: bytes) -> Signed | None:
    """The signed content and its signatures; None if a header is missing or malformed."""
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    signed_at = seconds(timestamp)
    if not webhook_id or signed_at is None:
        return None
    entries = (each.partition(",") for each in headers.get("webhook-signature", "").split(" "))
    signatures = tuple(found for version, _, text in entries if version == "v1" and (found := _base64(text)))
    return Signed(webhook_id, signed_at, f"{webhook_id}.{timestamp}.".encode() + body, signatures)


def fits(signed: Signed, keys: Sequence[bytes]) -> bool:
    """Whether one of the signatures is valid for one of the keys."""
    expected = [hmac.digest(key, signed.content, "sha256") for key in keys]
    return any(hmac.compare_digest(each, signature) for each in expected for signature in signed.signatures)


def keys_in(secrets: str) -> tuple[bytes, ...]:
    """The keys in a comma-separated list of secrets of the form whsec_…. Raises ValueError, without the secret."""
    return tuple(_key(secret.strip()) for secret in secrets.split(","))


def _key(secret: str) -> bytes:
    key = _base64(secret.removeprefix(SECRET_PREFIX)) if secret.startswith(SECRET_PREFIX) else None
    if not key:
        raise ValueError(f"must be {SECRET_PREFIX} and base64")
    return key


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None
