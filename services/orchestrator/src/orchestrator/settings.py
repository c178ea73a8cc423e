"""The settings of the orchestrator."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from chassis.settings.service import ServiceSettings
from contracts.generation import Provider
from contracts.providers.registry import DEFAULT_PROVIDER, PROVIDERS


class OrchestratorSettings(ServiceSettings):
    """The settings of the orchestrator, in addition to those of every service."""

    music_provider: Provider = Field(
        default=DEFAULT_PROVIDER,
        validation_alias="MUSIC_PROVIDER",
        description=f"Tried first: {' or '.join(PROVIDERS)}.",
    )
    catalogue: Path | None = Field(
        default=None, validation_alias="SEGUE_CATALOGUE", description="The models file; unset: the one Segue brings."
    )
    routing: Path | None = Field(
        default=None, validation_alias="SEGUE_ROUTING", description="The file of routing policies; unset: none."
    )
