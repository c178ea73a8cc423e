"""The keys that sign webhooks, and the headers that contain the signatures."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

USER_ID = "sandbox-user"


@dataclass
class Keys:
    """fal's Ed25519 keys (the last one signs, the one before it stays published) and Replicate's secret."""

    fal: list[Ed25519PrivateKey] = field(default_factory=lambda: [Ed25519PrivateKey.generate()])
    replicate: bytes = field(default_factory=lambda: secrets.token_bytes(24))

    def rotate(self) -> None:
        """Signs with new keys from now on."""
        self.fal = [self.fal[-1], Ed25519PrivateKey.generate()]
        self.replicate = secrets.token_bytes(24)

    def jwks(self) -> dict[str, Any]:
        """fal's public keys as a JWK set; base64url without padding (RFC 8037)."""
        raw = [key.public_key().public_bytes_raw() for key in self.fal]
        xs = [base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in raw]
        kind = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"}
        return {"keys": [kind | {"x": x, "kid": hashlib.sha256(x.encode()).hexdigest()[:16]} for x in xs]}

    def replicate_secret(self) -> str:
        """Replicate's secret in the form of its API."""
        return "whsec_" + base64.b64encode(self.replicate).decode()


def fal_headers(key: Ed25519PrivateKey, request_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """fal's webhook headers over the raw body."""
    message = "\n".join([request_id, USER_ID, str(timestamp), hashlib.sha256(body).hexdigest()])
    return {
        "x-fal-webhook-request-id": request_id,
        "x-fal-webhook-user-id": USER_ID,
        "x-fal-webhook-timestamp": str(timestamp),
        "x-fal-webhook-signature": key.sign(message.encode()).hex(),
    }


def replicate_headers(secret: bytes, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Replicate's webhook headers over the raw body (Standard Webhooks: https://www.standardwebhooks.com)."""
    message = f"{webhook_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(secret, message, hashlib.sha256).digest()).decode()
    return {"webhook-id": webhook_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}
