"""What Segue has to know of a provider, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """One provider. A new one is a module beside this one, an entry in `PROVIDERS`, and its adapter."""

    name: str
    """Lower-case letters; it stands in topics, schemas, messages and the API."""
    title: str
    """Its name in sentences."""
    listing: str
    """Where an operator finds its runs: a sentence without its full stop."""
    run_id_key: str
    """The key of the run's id in a callback's body."""
    address_key: str | None = None
    """The key under which a callback's body repeats the address that it was sent to; None: it does not."""
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
