"""The modalities: what can be asked for. One module for each, with its input and what Segue has to know of it as data;
nothing else in Segue tells one from another by its name. Imports nothing of Segue."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from contracts.modalities.image import IMAGE
from contracts.modalities.music import MUSIC
from contracts.modalities.spec import Modality, ModalitySpec

MODALITIES: Final[Mapping[Modality, ModalitySpec]] = MappingProxyType({spec.name: spec for spec in (MUSIC, IMAGE)})
