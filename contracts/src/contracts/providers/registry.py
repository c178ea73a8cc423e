"""Every provider by name; the built-in ones come first."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from contracts.plugins import load_plugins
from contracts.providers.fal import FAL
from contracts.providers.replicate import REPLICATE
from contracts.providers.spec import ProviderSpec

PROVIDERS: Final[Mapping[str, ProviderSpec]] = MappingProxyType(
    {spec.name: spec for spec in (FAL, REPLICATE, *load_plugins("segue.providers", ProviderSpec))}
)
DEFAULT_PROVIDER: Final = next(iter(PROVIDERS))
"""The provider that is tried first, unless configured otherwise."""
