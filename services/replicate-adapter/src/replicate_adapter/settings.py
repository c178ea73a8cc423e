"""The settings of the Replicate adapter."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from adapter_kit.settings import AdapterSettings
from chassis.settings.types import HeaderSecret, HttpUrl


class ReplicateSettings(AdapterSettings):
    """The Replicate adapter's own settings."""

    replicate_api_token: HeaderSecret = Field(
        validation_alias="REPLICATE_API_TOKEN", description="Replicate's API token, which starts with r8_"
    )
    replicate_base_url: HttpUrl = Field(
        default="https://api.replicate.com",
        validation_alias="REPLICATE_BASE_URL",
        description="The base of Replicate's API, without /v1.",
    )
    concurrent_runs: int | None = Field(
        default=None,
        gt=0,
        validation_alias="SEGUE_REPLICATE_CONCURRENT_RUNS",
        description="Runs under way at a time; unset: as many as are asked for.",
    )
    submits_per_minute: int | None = Field(
        default=None,
        gt=0,
        validation_alias="SEGUE_REPLICATE_SUBMITS_PER_MINUTE",
        description="Submits a minute; unset: as many as are asked for.",
    )

    @field_validator("replicate_api_token")
    @classmethod
    def _is_a_token(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith("r8_"):
            raise ValueError("must start with r8_, as Replicate's account page shows it")
        return value
