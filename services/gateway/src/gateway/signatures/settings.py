"""The settings of the providers' signature schemes, which the providers' specs define."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Optional

from pydantic import AfterValidator, Field, SecretStr, create_model

from chassis.settings.service import CallbackSettings
from chassis.settings.types import HeaderSecret, HttpUrl, SigningSecret
from contracts.providers.registry import PROVIDERS
from contracts.providers.spec import Ed25519Jwks, ProviderSpec, Setting, StandardWebhooks
from gateway.signatures.standard_webhooks import keys_in


def signature_values(settings: SignatureSettings) -> Mapping[str, str]:
    """The values that are set, by setting name; secrets in plain text."""
    values = {setting.name: getattr(settings, setting.name.lower()) for setting, _ in _all_settings()}
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in values.items()
        if value is not None
    }


def _all_settings() -> Iterator[tuple[Setting, Any]]:
    return (each for spec in PROVIDERS.values() for each in _settings_of(spec))


def _settings_of(spec: ProviderSpec) -> Iterator[tuple[Setting, Any]]:
    """The settings of a provider's signature scheme, each with its type."""
    match spec.signature:
        case Ed25519Jwks() as scheme:
            yield scheme.jwks_url, HttpUrl
        case StandardWebhooks() as scheme:
            yield scheme.secret, Annotated[SigningSecret, AfterValidator(partial(_are_secrets, spec.title))]
            yield scheme.api_token, HeaderSecret
            yield scheme.api_url, HttpUrl


def _are_secrets(title: str, value: SecretStr) -> SecretStr:
    try:
        keys_in(value.get_secret_value())
    except ValueError as error:
        raise ValueError(f"{error}, as {title}'s API gives it") from None
    return value


if TYPE_CHECKING:
    SignatureSettings = CallbackSettings
else:
    # The fields exist only at run time; `signature_values` reads them.
    SignatureSettings = create_model(
        "SignatureSettings",
        __base__=CallbackSettings,
        __module__=__name__,
        **{
            setting.name.lower(): (
                Optional[kind] if setting.default is None else kind,  # noqa: UP045 - made at run time
                Field(default=setting.default, validation_alias=setting.name, description=setting.description),
            )
            for setting, kind in _all_settings()
        },
    )
