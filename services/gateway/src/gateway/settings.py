"""The settings of the gateway, read from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from chassis.settings.providers import ProviderSettings
from contracts.generation import AmbiguityPolicy, LostOutputPolicy
from contracts.messages.requests import LONGEST_DEADLINE_S
from gateway.signatures.settings import SignatureSettings

OperatorCalls = Literal["api", "health", "off"]
AccessLog = Literal["on", "off"]


class GatewaySettings(SignatureSettings, ProviderSettings):
    """The gateway's settings in addition to those of every service."""

    port: int = Field(
        default=8080, ge=0, le=65535, validation_alias="SEGUE_PORT", description="Port of the API; 0: any free one."
    )
    health_host: str = Field(
        default="127.0.0.1",
        validation_alias="SEGUE_HEALTH_HOST",
        description="Address on which the health pages are served in addition to the API's.",
    )
    health_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        validation_alias="SEGUE_HEALTH_PORT",
        description="Port on which the health pages are served in addition to the API's; 0: any free one.",
    )
    operator_calls: OperatorCalls = Field(
        default="api",
        validation_alias="SEGUE_OPERATOR_CALLS",
        description="api, health or off: the listener with the calls of operators, which resolve and collect attempts.",
    )
    access_log: AccessLog = Field(
        default="on",
        validation_alias="SEGUE_ACCESS_LOG",
        description="on or off: whether each request to the API is a line in the log.",
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
        description="Seconds that a job may take.",
    )
    accept_within_s: float = Field(
        default=15,
        ge=5,
        le=3600,
        validation_alias="SEGUE_ACCEPT_WITHIN_S",
        description="Seconds within which a request has to reach Kafka; a later one is not run.",
    )
    ambiguity_policy: AmbiguityPolicy = Field(
        default="hold",
        validation_alias="SEGUE_AMBIGUITY_POLICY",
        description="hold or resubmit: what a job does when it is not known whether its submit was accepted.",
    )
    lost_output_policy: LostOutputPolicy = Field(
        default="retry_elsewhere",
        validation_alias="SEGUE_LOST_OUTPUT_POLICY",
        description="retry_elsewhere or fail: what a job does when the output of a paid run is lost.",
    )
