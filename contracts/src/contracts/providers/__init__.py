"""The providers: who makes what is asked for. One module for each, with what Segue has to know of it as data. Apart
from its adapter, no service of Segue tells one from another by its name. Imports nothing of Segue."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from contracts.providers.fal import FAL
from contracts.providers.replicate import REPLICATE
from contracts.providers.spec import ProviderSpec

PROVIDERS: Final[Mapping[str, ProviderSpec]] = MappingProxyType({spec.name: spec for spec in (FAL, REPLICATE)})
DEFAULT_PROVIDER: Final = next(iter(PROVIDERS))
"""The provider that is tried first, where nothing says otherwise."""
