"""The settings of the orchestrator."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from chassis.settings.providers import ProviderSettings, SilenceSettings


class OrchestratorSettings(ProviderSettings, SilenceSettings):
    """The settings of the orchestrator, in addition to those of every service."""

    catalogue: Path | None = Field(
        default=None, validation_alias="SEGUE_CATALOGUE", description="The models file; unset: the one Segue brings."
    )
    routing: Path | None = Field(
        default=None, validation_alias="SEGUE_ROUTING", description="The file of routing policies; unset: none."
    )
