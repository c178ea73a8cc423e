"""Which providers a stack uses: those that SEGUE_PROVIDERS names, and of the real ones those that have a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chassis.errors import EXIT_SETTINGS
from contracts.providers.registry import PROVIDERS
from contracts.topics import ADAPTERS, SERVICES, ServiceName
from segue_cli.stack.components import StackFailed

SETTING: Final = "SEGUE_PROVIDERS"


@dataclass(frozen=True, slots=True)
class Choice:
    """The providers to use, and one line on those that are left out; None if none is."""

    names: tuple[str, ...]
    left_out: str | None = None

    @property
    def services(self) -> tuple[ServiceName, ...]:
        """The services to run: all but the adapters of other providers."""
        adapters = {PROVIDERS[name].service for name in self.names if name in PROVIDERS}
        return tuple(name for name in SERVICES if name not in ADAPTERS or name in adapters)


def chosen(environ: Mapping[str, str], *, live: bool) -> Choice:
    """The providers to use with these settings; `live`: the real ones. Raises StackFailed if a key is missing.

    Names in SEGUE_PROVIDERS are not checked: the services do that.
    """
    told = environ.get(SETTING)
    names = tuple(name.strip() for name in told.split(",")) if told else tuple(PROVIDERS)
    keyless = {name: lacking_key(name) for name in names if live and not has_key(name, environ)}
    if told and keyless:
        name, keys = next(iter(keyless.items()))
        raise StackFailed(f"{SETTING} names {name}, and {keys} is not set: set it, or take {name} out", EXIT_SETTINGS)
    with_key = tuple(name for name in names if name not in keyless)
    if not with_key:
        needed = " or ".join(keyless.values())
        raise StackFailed(f"--providers live needs {needed} in the environment or in .env", EXIT_SETTINGS)
    left_out = "; ".join(f"{name} has no key ({keys} is not set) and is left out" for name, keys in keyless.items())
    return Choice(with_key, left_out or None)


def has_key(provider: str, environ: Mapping[str, str]) -> bool:
    """Whether the provider's key is set, as far as its specification tells; else it is assumed."""
    keys = PROVIDERS[provider].keys if provider in PROVIDERS else ()
    return not keys or any(environ.get(name) for name in keys)


def lacking_key(provider: str) -> str:
    """The name of the setting for the provider's key, with its other names."""
    first, *others = PROVIDERS[provider].keys
    return f"{first} (or {', '.join(others)})" if others else first
