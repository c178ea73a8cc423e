"""The settings that every service reads from its environment; a wrong one is reported in one line that names it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from chassis.settings.database.url import read_database_url
from chassis.settings.env_file import BadEnvironment, read_env_file
from chassis.settings.header_values import CREDENTIAL, credential_faults, header_fault, stripped
from chassis.settings.http_limits import HttpSettings
from chassis.settings.kafka.settings import KafkaSettings
from chassis.settings.names import SECRETS, aliases, names_of, secrets_of, unknown_names
from chassis.settings.otel import READ_BY_SDK
from chassis.settings.secret_files import add_missing, named_by_file, replace, secret_files, with_secrets
from chassis.settings.traces import TraceSettings
from chassis.settings.types import LogFormat, SigningSecret
from contracts.messages.requests import LONGEST_DEADLINE_S
from contracts.topics import DAY_S, TOPICS

_REPLAYED_S: Final = max(topic.retention_s for topic in TOPICS)
DEFAULT_ROW_RETENTION_DAYS: Final = 90
LEAST_ROW_RETENTION_DAYS: Final = max(_REPLAYED_S, 2 * LONGEST_DEADLINE_S) / DAY_S
"""The rows must outlast redelivery by Kafka, replays of dead letters, and any job in progress."""


class ServiceSettings(HttpSettings, KafkaSettings, TraceSettings):
    """The settings that all services share; each service adds its own."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", populate_by_name=True)
    _notes: tuple[str, ...] = PrivateAttr(default=())

    database_url: SecretStr = Field(validation_alias="DATABASE_URL", description="postgresql://user@host:port/name")
    log_level: str = Field(default="INFO", validation_alias="LOG_LEVEL")
    log_format: LogFormat = Field(
        default="auto",
        validation_alias="LOG_FORMAT",
        description="json, console, or auto: console where stdout is a terminal.",
    )
    host: str = Field(default="127.0.0.1", validation_alias="SEGUE_HOST", description="Address to listen on.")
    port: int = Field(
        default=0, ge=0, le=65535, validation_alias="SEGUE_PORT", description="Port of the HTTP pages; 0: any free one."
    )
    drain_s: float = Field(
        default=25,
        gt=0,
        le=3600,
        validation_alias="SEGUE_DRAIN_S",
        description="Seconds to finish work in after SIGTERM.",
    )
    row_retention_days: float = Field(
        default=DEFAULT_ROW_RETENTION_DAYS,
        le=36_500,
        allow_inf_nan=False,
        validation_alias="SEGUE_ROW_RETENTION_DAYS",
        description="Days for which the rows of what has ended are kept.",
    )

    @property
    def keep_rows(self) -> timedelta:
        """How long the rows of ended jobs and attempts are kept."""
        return timedelta(days=self.row_retention_days)

    @field_validator("row_retention_days")
    @classmethod
    def _outlives_replays(cls, value: float) -> float:
        if value <= LEAST_ROW_RETENTION_DAYS:
            least = f"{LEAST_ROW_RETENTION_DAYS:g}"
            raise ValueError(
                f"must be more than {least}: Kafka may deliver for that long again what the rows answer for"
            )
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        level = value.upper()
        if level not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
            raise ValueError("must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
        return level

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        read_database_url(value.get_secret_value())
        return value

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages about the parts of the settings that are ignored."""
        database = read_database_url(self.database_url.get_secret_value())
        return (*self._notes, *(f"DATABASE_URL: {note}" for note in database.parameters.notes), *self.kafka_notes)

    def secrets(self) -> frozenset[str]:
        """The values that must not be logged, including the database's password."""
        values = (getattr(self, name) for name in type(self).model_fields)
        found = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
        return frozenset({*found, read_database_url(self.database_url.get_secret_value()).password or ""} - {""})


MIN_SECRET_CHARS: Final = 32


class CallbackSettings(ServiceSettings):
    """The settings that the services share that create or serve callback URLs."""

    public_url: str | None = Field(
        default=None,
        validation_alias="SEGUE_PUBLIC_URL",
        description="Where this API is reached from outside, as in https://host.",
    )
    callback_secret: SigningSecret | None = Field(
        default=None,
        validation_alias="SEGUE_CALLBACK_SECRET",
        validate_default=True,
        description="What signs the addresses that providers call back; the same for the gateway and the adapters.",
    )

    @field_validator("public_url")
    @classmethod
    def _is_safe_to_call(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if fault := header_fault(value):
            raise ValueError(fault)
        try:
            url = urlsplit(value)
            plain = url.scheme == "http" and _is_loopback(url.hostname or "")
            fine = (url.scheme == "https" or plain) and url.hostname and url.port != 0
        except ValueError:
            fine = False
        if not fine or url.query or url.fragment or url.username is not None:
            raise ValueError("must be https://host, or http:// at this machine's own loopback address")
        return value.rstrip("/")

    @field_validator("callback_secret")
    @classmethod
    def _is_there_and_long(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and info.data.get("public_url") is not None:
            raise ValueError("has to be set where SEGUE_PUBLIC_URL is")
        if value is not None and len(value.get_secret_value()) < MIN_SECRET_CHARS:
            raise ValueError(f"must have at least {MIN_SECRET_CHARS} characters")
        return value


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class WrongSettings(BadEnvironment):
    """The settings of a service are invalid."""


S = TypeVar("S", bound=ServiceSettings)
K = TypeVar("K", bound=BaseSettings)


def load_settings(kind: type[S]) -> S:
    """Read the settings from the environment and `.env`. Raises WrongSettings."""
    notes = read_into_environment(Path(".env"), secrets={*SECRETS, *secrets_of(kind)})
    for name in (*names_of(kind), *READ_BY_SDK, *filter(CREDENTIAL.fullmatch, os.environ)):
        # Libraries read some of them directly, so the stripped values are set in the environment.
        if (value := os.environ.get(name)) is not None and (bare := stripped(value)) != value:
            os.environ[name] = bare
    settings = settings_of(kind, os.environ)
    settings._notes = (*notes, *unknown_names(os.environ, names_of(kind)))
    return settings


def read_into_environment(path: Path, *, override: bool = False, secrets: Iterable[str] = SECRETS) -> tuple[str, ...]:
    """Set the variables of the file that the environment lacks, or all of them with `override`.

    They are set in the environment because libraries read some directly, such as SSL_CERT_FILE. Returns messages about
    ignored lines. Raises WrongSettings.
    """
    try:
        file = read_env_file(path)
    except BadEnvironment as error:
        raise WrongSettings(*error.problems) from None
    (replace if override else add_missing)(os.environ, file.values, secrets)
    return file.notes


def settings_of(kind: type[K], environ: Mapping[str, str]) -> K:
    """The settings in `environ`; missing ones are read from the process's environment. Raises WrongSettings."""
    files = secret_files(environ, secrets_of(kind))
    try:
        given = with_secrets(environ, files)
        values: dict[str, Any] = {name: bare for name in names_of(kind) if (bare := stripped(given.get(name, "")))}
        settings = kind(**values)
    except BadEnvironment as error:
        raise WrongSettings(*error.problems) from None
    except SettingsError as error:
        raise WrongSettings(str(error)) from None
    except ValidationError as error:
        # Inputs are omitted: a mistyped key is still a secret.
        problems = (_problem(kind, e["loc"], e["type"], e["msg"]) for e in error.errors(include_input=False))
        raise WrongSettings(*(named_by_file(problem, files) for problem in problems)) from None
    faults = list(credential_faults(getattr(settings, "artifact_store_url", None), environ))
    if isinstance(settings, TraceSettings):
        faults += settings.trace_faults(environ)
    if faults:
        raise WrongSettings(*faults)
    return settings


def _problem(kind: type[BaseSettings], loc: tuple[int | str, ...], error_type: str, message: str) -> str:
    name = str(loc[0]) if loc else "environment"
    if name in kind.model_fields:  # The default is invalid.
        name = next(iter(aliases(kind.model_fields[name].validation_alias)), name)
    described = {alias: f.description for f in kind.model_fields.values() for alias in aliases(f.validation_alias)}
    hint = f" ({described[name]})" if described.get(name) else ""
    what = "is not set" if error_type == "missing" else message.removeprefix("Value error, ")
    return f"{name} {what}{hint}" if error_type == "missing" else f"{name}: {what}{hint}"
