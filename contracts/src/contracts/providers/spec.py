"""The properties of a provider, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting of the gateway that a signature scheme needs."""

    name: str
    description: str
    default: str | None = None
    """None: it has no default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ed25519Jwks:
    """Webhooks signed with Ed25519; the public keys are in a JWKS (RFC 7517, RFC 8037).

    The signed text consists of the request id, the user id, the timestamp and the hexadecimal SHA-256 of the body, one
    per line.
    """

    header_prefix: str
    """The prefix of the four headers, in lower case; request-id, user-id, timestamp and signature follow it."""
    jwks_url: Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardWebhooks:
    """Webhooks signed with HMAC-SHA256: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec."""

    secret: Setting
    api_token: Setting
    """The provider's API token, with which the secret is fetched if it is not set."""
    api_url: Setting
    secret_path: str
    """The path after `api_url` that returns a JSON object with the secret as `key`."""


SignatureScheme = Ed25519Jwks | StandardWebhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """One provider. A new one takes a module next to this one, an entry in `PROVIDERS`, and an adapter."""

    name: str
    """Lower-case letters; it is part of topics, schemas, messages and the API."""
    title: str
    """Its display name."""
    listing: str
    """Where an operator finds its runs: a sentence without the full stop."""
    signature: SignatureScheme
    run_id_key: str
    """The key of the run id in a callback's body."""
    address_key: str | None = None
    """The key of the callback URL in a callback's body; None: the body does not contain it."""
    parameter_prefix: str = ""
    """The prefix before `webhook` in the name of the parameter for the callback URL."""
    api_urls: tuple[str, ...] = ()
    """Host, and path where needed, of the URLs of runs in its API; such URLs are never outputs."""
    version_pattern: str | None = None
    """The pattern of a version that a route may pin, as `endpoint:version`; None: its endpoints have no versions."""
    never_sent: Mapping[str, str] = field(default_factory=dict)
    """Arguments that no route may send, each with its effect."""
    settings: tuple[str, ...] = ()
    """The names of the settings that only this provider needs, of its adapter and of its signature scheme."""
    secrets: tuple[str, ...] = ()
    """Those of them that are secret."""
    keys: tuple[str, ...] = ()
    """Those of them that may hold the key, one of which has to be set; empty if that cannot be told."""

    @property
    def service(self) -> str:
        """The name of its adapter's service."""
        return f"{self.name}-adapter"

    @property
    def schema(self) -> str:
        """The PostgreSQL schema of its adapter."""
        return f"{self.name}_adapter"

    @property
    def command_topic(self) -> str:
        """The topic of the commands to its adapter."""
        return f"segue.commands.{self.name}"
