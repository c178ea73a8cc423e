"""Every provider, by its name; Segue's own come first."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from contracts.plugins import brought
from contracts.providers.fal import FAL
from contracts.providers.replicate import REPLICATE
from contracts.providers.spec import ProviderSpec

PROVIDERS: Final[Mapping[str, ProviderSpec]] = MappingProxyType(
    {spec.name: spec for spec in (FAL, REPLICATE, *brought("segue.providers", ProviderSpec))}
)
DEFAULT_PROVIDER: Final = next(iter(PROVIDERS))
"""The provider that is tried first, where nothing says otherwise."""
