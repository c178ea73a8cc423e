"""What the gateway reads from its environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from chassis.settings import ServiceSettings
from contracts.generation import Provider


class GatewaySettings(ServiceSettings):
    """The gateway's own settings, beside those of every service."""

    port: int = Field(
        default=8080, ge=0, le=65535, validation_alias="SEGUE_PORT", description="Port of the API; 0: any free one."
    )
    music_provider: Provider = Field(
        default="fal", validation_alias="MUSIC_PROVIDER", description="The provider tried first: fal or replicate."
    )
    artifact_store_url: str = Field(
        validation_alias="ARTIFACT_STORE_URL", description="file:///path, s3://bucket, gs://bucket or az://container."
    )
    catalogue: Path | None = Field(
        default=None, validation_alias="SEGUE_CATALOGUE", description="Path of a models.yaml; unset: the built-in one."
    )
    public_url: str | None = Field(
        default=None,
        validation_alias="SEGUE_PUBLIC_URL",
        description="Where clients reach this API, as in https://host.",
    )
    job_deadline_s: float = Field(
        default=1800, ge=1, le=86_400, validation_alias="SEGUE_JOB_DEADLINE_S", description="Seconds a job may take."
    )
    accept_within_s: float = Field(
        default=15,
        ge=5,
        le=3600,
        validation_alias="SEGUE_ACCEPT_WITHIN_S",
        description="Seconds after which a request that was stuck on its way to Kafka is no longer run.",
    )

    @field_validator("public_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/") if value else None
