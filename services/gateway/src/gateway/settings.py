"""The settings of the gateway, read from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from chassis.settings.header_values import header_fault
from chassis.settings.providers import ProviderSettings
from contracts.generation import AmbiguityPolicy, LostOutputPolicy
from contracts.messages.requests import LONGEST_DEADLINE_S
from gateway.signatures.settings import SignatureSettings

OperatorCalls = Literal["api", "health", "off"]
AccessLog = Literal["on", "off"]

TRACE_ID: Final = "{trace_id}"
"""What stands for the id of a trace in SEGUE_TRACE_URL."""


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
    trace_reads: bool = Field(
        default=False,
        validation_alias="SEGUE_TRACE_READS",
        description="Whether requests that only read are traced although their client does not trace them.",
    )
    trace_url: str | None = Field(
        default=None,
        validation_alias="SEGUE_TRACE_URL",
        description="Where a trace is shown, as in http://jaeger:16686/trace/{trace_id}.",
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

    @field_validator("trace_url")
    @classmethod
    def _shows_a_trace(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if fault := header_fault(value):
            raise ValueError(fault)
        if TRACE_ID not in value:
            raise ValueError(f"must contain {TRACE_ID}, in whose place the id of a trace is put")
        try:
            url = urlsplit(value)
            fine = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and url.username is None
        except ValueError:
            fine = False
        if not fine or TRACE_ID in url.netloc:
            raise ValueError("must begin with http:// or https:// and a host, without a user")
        return value
