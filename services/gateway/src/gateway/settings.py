"""What the gateway reads from its environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from chassis.settings.service import CallbackSettings
from chassis.settings.types import HeaderSecret, HttpUrl, SigningSecret
from contracts.generation import AmbiguityPolicy, LostOutputPolicy, Provider
from contracts.messages.requests import LONGEST_DEADLINE_S
from gateway.signatures.schemes import replicate_key


class GatewaySettings(CallbackSettings):
    """The gateway's own settings, beside those of every service."""

    port: int = Field(
        default=8080, ge=0, le=65535, validation_alias="SEGUE_PORT", description="Port of the API; 0: any free one."
    )
    health_host: str = Field(
        default="127.0.0.1",
        validation_alias="SEGUE_HEALTH_HOST",
        description="Address to serve the health pages on, beside the API's.",
    )
    health_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        validation_alias="SEGUE_HEALTH_PORT",
        description="Port of the health pages beside the API's; 0: any free one.",
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
    job_deadline_s: float = Field(
        default=1800,
        ge=1,
        le=LONGEST_DEADLINE_S,
        validation_alias="SEGUE_JOB_DEADLINE_S",
        description="Seconds a job may take.",
    )
    accept_within_s: float = Field(
        default=15,
        ge=5,
        le=3600,
        validation_alias="SEGUE_ACCEPT_WITHIN_S",
        description="Seconds after which a request that was stuck on its way to Kafka is no longer run.",
    )
    ambiguity_policy: AmbiguityPolicy = Field(
        default="hold",
        validation_alias="SEGUE_AMBIGUITY_POLICY",
        description="hold or resubmit: what a job does when nobody can tell whether its submit was accepted.",
    )
    lost_output_policy: LostOutputPolicy = Field(
        default="retry_elsewhere",
        validation_alias="SEGUE_LOST_OUTPUT_POLICY",
        description="retry_elsewhere or fail: what a job does when the output of a run that was paid for is lost.",
    )
    fal_jwks_url: HttpUrl = Field(
        default="https://rest.fal.ai/.well-known/jwks.json",
        validation_alias="FAL_JWKS_URL",
        description="Where the keys are that fal signs webhooks with.",
    )
    replicate_webhook_signing_secret: SigningSecret | None = Field(
        default=None,
        validation_alias="REPLICATE_WEBHOOK_SIGNING_SECRET",
        description="What Replicate signs webhooks with, whsec_…; several, with commas between them, while it changes.",
    )
    replicate_api_token: HeaderSecret | None = Field(
        default=None,
        validation_alias="REPLICATE_API_TOKEN",
        description="Replicate's API token: it fetches the signing secret where that is not set.",
    )
    replicate_base_url: HttpUrl = Field(
        default="https://api.replicate.com",
        validation_alias="REPLICATE_BASE_URL",
        description="The base of Replicate's API, without /v1.",
    )

    @field_validator("replicate_webhook_signing_secret")
    @classmethod
    def _are_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        for secret in _listed(value):
            replicate_key(secret)
        return value

    def replicate_signing_keys(self) -> tuple[bytes, ...]:
        """The keys in Replicate's signing secret; none where it is not set."""
        return tuple(replicate_key(secret) for secret in _listed(self.replicate_webhook_signing_secret))


def _listed(secrets: SecretStr | None) -> list[str]:
    return secrets.get_secret_value().split(",") if secrets is not None else []
