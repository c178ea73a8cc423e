"""What every service reads from its environment, and how a wrong setting is told: one line that names it."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from typing import Final, TypeVar
from urllib.parse import urlsplit

from dotenv import load_dotenv
from pydantic import AliasChoices, AliasPath, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict, SettingsError

from chassis.http_settings import HttpSettings
from contracts.requests import LONGEST_DEADLINE_S
from contracts.topics import DAY_S, TOPICS

_REPLAYED_S: Final = max(topic.retention_s for topic in TOPICS if topic.groups)
LEAST_ROW_RETENTION_DAYS: Final = max(_REPLAYED_S, 2 * LONGEST_DEADLINE_S) / DAY_S
"""Kafka may deliver again what is younger, and a job may still be under way: its rows have to answer for it."""


class ServiceSettings(HttpSettings):
    """The settings that all services share; each service adds its few."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", populate_by_name=True)

    kafka_bootstrap_servers: str = Field(
        validation_alias="KAFKA_BOOTSTRAP_SERVERS", min_length=1, description="host:port of one broker or several."
    )
    kafka_session_timeout_s: float = Field(
        default=30,
        gt=1,
        le=300,
        validation_alias="SEGUE_KAFKA_SESSION_TIMEOUT_S",
        description="Seconds without a heartbeat after which Kafka gives a consumer's partitions to another.",
    )
    kafka_fetch_wait_ms: int = Field(
        default=500,
        ge=1,
        le=10_000,
        validation_alias="SEGUE_KAFKA_FETCH_WAIT_MS",
        description="How long a broker may hold an empty fetch; Kafka answers as soon as there is something.",
    )
    database_url: SecretStr = Field(validation_alias="DATABASE_URL", description="postgresql://user@host:port/name")
    otlp_endpoint: str | None = Field(
        default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT", description="Where traces go; unset: nowhere."
    )
    log_level: str = Field(default="INFO", validation_alias="LOG_LEVEL")
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
        default=90,
        le=36_500,
        allow_inf_nan=False,
        validation_alias="SEGUE_ROW_RETENTION_DAYS",
        description="Days for which the rows of what has ended are kept.",
    )

    @property
    def keep_rows(self) -> timedelta:
        """How long the rows of what has ended are kept."""
        return timedelta(days=self.row_retention_days)

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        servers = [server.strip() for server in value.split(",")]
        for server in servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ValueError(f"must be host:port, or several with commas between, and {server!r} is not")
        return ",".join(servers)

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
        if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        return value


MIN_SECRET_CHARS: Final = 32


class CallbackSettings(ServiceSettings):
    """What the services share that make or answer the addresses which providers call back."""

    public_url: str | None = Field(
        default=None,
        validation_alias="SEGUE_PUBLIC_URL",
        description="Where this API is reached from outside, as in https://host.",
    )
    callback_secret: SecretStr | None = Field(
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


class WrongSettings(Exception):
    """The environment does not hold what the service needs."""


S = TypeVar("S", bound=ServiceSettings)


def load_settings(kind: type[S]) -> S:
    """Read the settings from the environment and `.env`. Raises WrongSettings in one line that names each culprit."""
    try:
        # Libraries read some of it themselves: SSL_CERT_FILE, FAL_RUN_HOST, REPLICATE_BASE_URL.
        load_dotenv(".env")
        return kind()
    except (OSError, UnicodeError) as error:
        raise WrongSettings(f".env cannot be read: {type(error).__name__}") from None
    except SettingsError as error:
        raise WrongSettings(str(error)) from None
    except ValidationError as error:
        # Inputs are left out: a mistyped key is still a secret.
        problems = (_problem(kind, e["loc"], e["type"], e["msg"]) for e in error.errors(include_input=False))
        raise WrongSettings("; ".join(problems)) from None


def _problem(kind: type[S], loc: tuple[int | str, ...], error_type: str, message: str) -> str:
    name = str(loc[0]) if loc else "environment"
    if name in kind.model_fields:  # What is wrong is the default.
        name = next(iter(_aliases(kind.model_fields[name].validation_alias)), name)
    described = {alias: f.description for f in kind.model_fields.values() for alias in _aliases(f.validation_alias)}
    hint = f" ({described[name]})" if described.get(name) else ""
    what = "is not set" if error_type == "missing" else message.removeprefix("Value error, ")
    return f"{name} {what}{hint}" if error_type == "missing" else f"{name}: {what}{hint}"


def _aliases(alias: str | AliasPath | AliasChoices | None) -> list[str]:
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [choice for choice in choices if isinstance(choice, str)]
