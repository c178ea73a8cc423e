"""Settings about the providers: which are enabled, which is tried first, and when an adapter counts as silent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from chassis.settings.service import ServiceSettings
from contracts.generation import Provider
from contracts.providers.registry import DEFAULT_PROVIDER, PROVIDERS

_NAMES: Final = ", ".join(PROVIDERS)


def enabled_providers(value: str | None) -> tuple[Provider, ...]:
    """The providers that SEGUE_PROVIDERS names, each once, in its order; all if it is None. Raises ValueError."""
    if value is None:
        return tuple(PROVIDERS)
    names = dict.fromkeys(name for part in value.split(",") if (name := part.strip()))
    if not names:
        raise ValueError(f"names no provider; there is {_NAMES}")
    if unknown := next((name for name in names if name not in PROVIDERS), None):
        raise ValueError(f"{unknown!r} is no provider; there is {_NAMES}")
    return tuple(names)


def first_provider(value: str | None, enabled: Sequence[Provider]) -> Provider:
    """The provider that MUSIC_PROVIDER names. Raises ValueError if it is not enabled.

    If it is None, the default provider, or the first of the enabled ones if that is not among them.
    """
    if value is None:
        return DEFAULT_PROVIDER if DEFAULT_PROVIDER in enabled else enabled[0]
    if value not in PROVIDERS:
        raise ValueError(f"{value!r} is no provider; there is {_NAMES}")
    if value not in enabled:
        raise ValueError(f"{value!r} is not enabled: SEGUE_PROVIDERS names {', '.join(enabled)}")
    return value


class SilenceSettings(ServiceSettings):
    """The setting that the orchestrator and the adapters share."""

    adapter_silent_s: float = Field(
        default=45,
        ge=3,
        le=3600,
        validation_alias="SEGUE_ADAPTER_SILENT_S",
        description="Seconds without a heartbeat after which no job is sent to an adapter; they beat thrice as often.",
    )


class ProviderSettings(ServiceSettings):
    """The settings of a service that chooses among the providers."""

    providers_setting: str | None = Field(
        default=None,
        validation_alias="SEGUE_PROVIDERS",
        description=f"The providers that are used, with commas between them: {_NAMES}.",
    )
    first_setting: str | None = Field(
        default=None, validation_alias="MUSIC_PROVIDER", description=f"Tried first: {' or '.join(PROVIDERS)}."
    )

    # Each request asks for both of these.
    @cached_property
    def providers(self) -> tuple[Provider, ...]:
        """The providers that are enabled."""
        return enabled_providers(self.providers_setting)

    @cached_property
    def music_provider(self) -> Provider:
        """The provider that is tried first."""
        return first_provider(self.first_setting, self.providers)

    @field_validator("providers_setting")
    @classmethod
    def _are_known(cls, value: str | None) -> str | None:
        enabled_providers(value)
        return value

    @field_validator("first_setting")
    @classmethod
    def _is_enabled(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "providers_setting" in info.data:  # If SEGUE_PROVIDERS is wrong, that alone is reported.
            first_provider(value, enabled_providers(info.data["providers_setting"]))
        return value
