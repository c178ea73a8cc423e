"""The default behaviour of the stand-ins; the control API changes it at run time."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0)]


class Settings(BaseModel):
    """Durations (seconds), limits and accounts of both providers; an unset limit is off."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    queue_s: Seconds = 0.4
    run_s: Seconds = 1.2
    fal_concurrency: int | None = Field(default=None, ge=1)
    replicate_per_minute: int | None = Field(default=None, ge=1)
    bad_keys: list[str] = []
    fal_validates_at: Literal["run", "submit"] = "run"
    fal_lists_unfinished: bool = False
    fal_retention_s: Seconds = 3600
    fal_large_retention_s: Seconds = 360
    replicate_retention_s: Seconds = 3600
    replicate_run_cap_s: Seconds = 1800
    replicate_cancel_after_min_s: Seconds = 5
    webhook_late_s: Seconds = 5.0
    webhook_timeout_s: Seconds = 15.0
    fal_webhook_retries_s: list[Seconds] = [1, 2, 4, 8, 15, 30, 60, 120, 240, 480]
    replicate_webhook_retries_s: list[Seconds] = [1, 2, 4, 8, 16, 29]

    def change(self, values: dict[str, object]) -> None:
        """Applies all of `values`, or none of them and raises `ValidationError`."""
        changed = Settings.model_validate(self.model_dump() | values)
        for name in values:
            setattr(self, name, getattr(changed, name))
