"""What the fal adapter reads from its environment."""

from __future__ import annotations

from pydantic import AliasChoices, Field, SecretStr, field_validator

from adapter_kit.settings import AdapterSettings


class FalSettings(AdapterSettings):
    """The fal adapter's own settings; its SDK reads FAL_RUN_HOST and FAL_QUEUE_RUN_HOST itself."""

    fal_key: SecretStr = Field(
        validation_alias=AliasChoices("FAL_KEY", "FAL_API_KEY"),
        description="fal's API key, in the form id:secret; FAL_API_KEY is read too",
    )
    fal_api_url: str = Field(
        default="https://api.fal.ai", validation_alias="FAL_API_URL", description="The base of fal's platform API."
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
        key_id, _, secret = value.get_secret_value().strip().partition(":")
        if not key_id or not secret:
            raise ValueError("must have the form id:secret, as fal's dashboard shows it once")
        return SecretStr(f"{key_id}:{secret}")
