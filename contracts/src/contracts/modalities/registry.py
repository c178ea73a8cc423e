"""Every modality by name; the built-in ones come first."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from contracts.modalities.image import IMAGE
from contracts.modalities.music import MUSIC
from contracts.modalities.spec import ModalitySpec
from contracts.plugins import load_plugins

MODALITIES: Final[Mapping[str, ModalitySpec]] = MappingProxyType(
    {spec.name: spec for spec in (MUSIC, IMAGE, *load_plugins("segue.modalities", ModalitySpec))}
)
