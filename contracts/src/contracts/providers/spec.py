"""What Segue has to know of a provider, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting of the gateway that a signature scheme needs."""

    name: str
    description: str
    default: str | None = None
    """None: it is unset unless the user sets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ed25519Jwks:
    """Webhooks signed with Ed25519; the public keys are in a JWKS (RFC 7517, RFC 8037).

    What is signed are the request's id, the user's id, the time, and the body's SHA-256 in hexadecimal, one a line.
    """

    header_prefix: str
    """How the names of the four headers begin, in lower case: request-id, user-id, timestamp and signature follow."""
    jwks_url: Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardWebhooks:
    """Webhooks signed with HMAC-SHA256: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec."""

    secret: Setting
    api_token: Setting
    """The key of the provider's API; it fetches the secret where that is not set."""
    api_url: Setting
    secret_path: str
    """Where the API has the secret, as `key` of a JSON object; it follows upon `api_url`."""


SignatureScheme = Ed25519Jwks | StandardWebhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """One provider. A new one is a module beside this one, an entry in `PROVIDERS`, and its adapter."""

    name: str
    """Lower-case letters; it stands in topics, schemas, messages and the API."""
    title: str
    """Its name in sentences."""
    listing: str
    """Where an operator finds its runs: a sentence without its full stop."""
    signature: SignatureScheme
    run_id_key: str
    """The key of the run's id in a callback's body."""
    address_key: str | None = None
    """The key under which a callback's body repeats the address that it was sent to; None: it does not."""
    parameter_prefix: str = ""
    """What precedes `webhook` in the name of the parameter that carries the address of callbacks."""
    api_urls: tuple[str, ...] = ()
    """Host, and path where needed, of the URLs under which its API has runs: they are never outputs."""
    never_sent: Mapping[str, str] = field(default_factory=dict)
    """Arguments that no route may send, with what each does."""

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
        """The topic of what its adapter has to do."""
        return f"segue.commands.{self.name}"
