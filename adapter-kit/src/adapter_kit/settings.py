"""The settings that every adapter shares."""

from __future__ import annotations

from pydantic import Field

from chassis.settings.providers import SilenceSettings
from chassis.settings.service import CallbackSettings
from contracts.messages.requests import LONGEST_DEADLINE_S


class AdapterSettings(CallbackSettings, SilenceSettings):
    """The settings of an adapter, except the provider's key."""

    artifact_store_url: str = Field(
        default="file:///var/lib/segue/artifacts",
        validation_alias="ARTIFACT_STORE_URL",
        description="Where outputs are kept: file, s3, gs or az.",
    )
    egress_allow: str = Field(
        default="",
        validation_alias="SEGUE_EGRESS_ALLOW",
        description="Hosts or networks that may be fetched from although they are private, separated by commas.",
    )
    max_output_mb: int = Field(
        default=200,
        ge=1,
        le=10_000,
        validation_alias="SEGUE_MAX_OUTPUT_MB",
        description="The largest output that is kept, in MiB, after it is unpacked.",
    )
    submit_timeout_s: float = Field(
        default=30,
        gt=0,
        le=300,
        validation_alias="SEGUE_SUBMIT_TIMEOUT_S",
        description="Seconds to wait for an answer.",
    )
    start_deadline_s: float | None = Field(
        default=None,
        gt=1,
        le=LONGEST_DEADLINE_S,
        validation_alias="SEGUE_START_DEADLINE_S",
        description="Seconds in which a run has to start.",
    )
    submit_grace_s: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_DEADLINE_S,
        validation_alias="SEGUE_SUBMIT_GRACE_S",
        description="Seconds after which a lost submit counts as never accepted; unset: derived from the route.",
    )
    breaker_open_s: float = Field(
        default=5,
        gt=0,
        le=300,
        validation_alias="SEGUE_BREAKER_OPEN_S",
        description="Seconds for which an open breaker blocks requests at first; doubles up to sixtyfold.",
    )
    probe_every_s: float = Field(
        default=15,
        ge=1,
        le=30,
        validation_alias="SEGUE_PROBE_EVERY_S",
        description="Interval between credential probes, in seconds.",
    )
    probe_shut_every_s: float = Field(
        default=5,
        ge=0.5,
        le=15,
        validation_alias="SEGUE_PROBE_SHUT_EVERY_S",
        description="The same while the breaker is open for the key, the balance or missing connectivity.",
    )
    concurrency: int = Field(
        default=300, gt=0, validation_alias="SEGUE_PROVIDER_CALLS", description="Provider calls in flight at a time."
    )
