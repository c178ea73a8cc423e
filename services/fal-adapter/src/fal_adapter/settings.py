"""The settings of the fal adapter."""

from __future__ import annotations

from pydantic import AliasChoices, Field, SecretStr, field_validator

from adapter_kit.settings import AdapterSettings
from chassis.settings.types import HeaderSecret, HostName, HttpUrl


class FalSettings(AdapterSettings):
    """The fal adapter's own settings. FAL_RUN_HOST and FAL_QUEUE_RUN_HOST are only checked here; the SDK reads them."""

    fal_key: HeaderSecret = Field(
        validation_alias=AliasChoices("FAL_KEY", "FAL_API_KEY"),
        description="fal's API key, in the form id:secret; FAL_API_KEY is read too",
    )
    fal_api_url: HttpUrl = Field(
        default="https://api.fal.ai", validation_alias="FAL_API_URL", description="The base of fal's platform API."
    )
    fal_run_host: HostName | None = Field(
        default=None, validation_alias="FAL_RUN_HOST", description="Another host in the place of fal.run."
    )
    fal_queue_run_host: HostName | None = Field(
        default=None, validation_alias="FAL_QUEUE_RUN_HOST", description="Another host in the place of queue.fal.run."
    )
    concurrent_runs: int | None = Field(
        default=None,
        gt=0,
        validation_alias="SEGUE_FAL_CONCURRENT_RUNS",
        description="Runs under way at a time; unset: as many as are asked for.",
    )
    submits_per_minute: int | None = Field(
        default=None,
        gt=0,
        validation_alias="SEGUE_FAL_SUBMITS_PER_MINUTE",
        description="Submits a minute; unset: as many as are asked for.",
    )

    @field_validator("fal_key")
    @classmethod
    def _is_a_pair(cls, value: SecretStr) -> SecretStr:
        key_id, _, secret = value.get_secret_value().partition(":")
        if not key_id or not secret:
            raise ValueError("must have the form id:secret, as fal's dashboard shows it once")
        return SecretStr(f"{key_id}:{secret}")
