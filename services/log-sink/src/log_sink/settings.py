"""The settings of the log sink."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, ValidationInfo, field_validator

from chassis.settings.service import ServiceSettings


class SinkSettings(ServiceSettings):
    """The settings of the log sink, in addition to those of every service: the retention of artifacts."""

    artifact_store_url: str | None = Field(
        default=None,
        validation_alias="ARTIFACT_STORE_URL",
        description="Where the files are that expire: file, s3, gs or az.",
    )
    artifact_retention_days: float | None = Field(
        default=None,
        ge=1,
        le=36_500,
        allow_inf_nan=False,
        validation_alias="SEGUE_ARTIFACT_RETENTION_DAYS",
        description="Days for which files are kept; unset: for ever.",
    )

    @field_validator("artifact_retention_days")
    @classmethod
    def _has_a_store(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("artifact_store_url") is None:
            raise ValueError("needs ARTIFACT_STORE_URL, the store that the adapters write to")
        return value

    @property
    def keep_artifacts(self) -> timedelta | None:
        """The retention period of artifacts; None: for ever."""
        return None if self.artifact_retention_days is None else timedelta(days=self.artifact_retention_days)
