"""The environment of Segue's processes: the list of settings, and the file that stores a set of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chassis.settings.env_file import BadEnvironment, read_env_file
from chassis.settings.header_values import stripped

PROVIDER_SETTINGS: Final = (
    "FAL_KEY",
    "FAL_API_KEY",
    "REPLICATE_API_TOKEN",
    "FAL_RUN_HOST",
    "FAL_QUEUE_RUN_HOST",
    "FAL_API_URL",
    "FAL_JWKS_URL",
    "REPLICATE_WEBHOOK_SIGNING_SECRET",
    "SSL_CERT_FILE",
    "REPLICATE_BASE_URL",
)
"""The settings that choose the providers and their keys; the sandbox replaces all of them."""

KAFKA_SECURITY: Final = (
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_TRUSTSTORE_LOCATION",
    "KAFKA_SSL_KEYSTORE_LOCATION",
    "KAFKA_SSL_KEY_LOCATION",
    "KAFKA_SSL_KEY_PASSWORD",
    "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM",
)
"""How a cluster of Kafka is reached; the embedded one speaks plain text."""

SETTINGS: Final = (
    "KAFKA_BOOTSTRAP_SERVERS",
    *KAFKA_SECURITY,
    "SEGUE_TOPIC_PREFIX",
    "SEGUE_TOPIC_PARTITIONS",
    "SEGUE_KAFKA_SESSION_TIMEOUT_S",
    "SEGUE_KAFKA_FETCH_WAIT_MS",
    "DATABASE_URL",
    *PROVIDER_SETTINGS,
    "MUSIC_PROVIDER",
    "ARTIFACT_STORE_URL",
    "SEGUE_PUBLIC_URL",
    "SEGUE_CALLBACK_SECRET",
    "SEGUE_EGRESS_ALLOW",
    "SEGUE_MAX_OUTPUT_MB",
    "SEGUE_CATALOGUE",
    "SEGUE_ROUTING",
    "SEGUE_HOST",
    "SEGUE_PORT",
    "SEGUE_HEALTH_HOST",
    "SEGUE_HEALTH_PORT",
    "SEGUE_MAX_CONNECTIONS",
    "SEGUE_MAX_CONNECTIONS_PER_PEER",
    "SEGUE_TRUSTED_PROXIES",
    "SEGUE_MAX_REQUEST_LINE_BYTES",
    "SEGUE_MAX_HEADER_BYTES",
    "SEGUE_MAX_HEADERS",
    "SEGUE_MAX_BUFFERED_BYTES",
    "SEGUE_HEADER_TIMEOUT_S",
    "SEGUE_BODY_TIMEOUT_S",
    "SEGUE_MIN_BODY_RATE",
    "SEGUE_IDLE_TIMEOUT_S",
    "SEGUE_WRITE_TIMEOUT_S",
    "SEGUE_SUBMIT_TIMEOUT_S",
    "SEGUE_START_DEADLINE_S",
    "SEGUE_SUBMIT_GRACE_S",
    "SEGUE_JOB_DEADLINE_S",
    "SEGUE_ACCEPT_WITHIN_S",
    "SEGUE_AMBIGUITY_POLICY",
    "SEGUE_LOST_OUTPUT_POLICY",
    "SEGUE_PROVIDER_CALLS",
    "SEGUE_BREAKER_OPEN_S",
    "SEGUE_PROBE_EVERY_S",
    "SEGUE_PROBE_SHUT_EVERY_S",
    "SEGUE_FAL_CONCURRENT_RUNS",
    "SEGUE_FAL_SUBMITS_PER_MINUTE",
    "SEGUE_REPLICATE_CONCURRENT_RUNS",
    "SEGUE_REPLICATE_SUBMITS_PER_MINUTE",
    "SEGUE_DRAIN_S",
    "SEGUE_ARTIFACT_RETENTION_DAYS",
    "SEGUE_ROW_RETENTION_DAYS",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "LOG_LEVEL",
)
"""Every setting that a service of Segue reads from its environment."""

API: Final = "SEGUE_API"
SANDBOX: Final = "SEGUE_SANDBOX_URL"
_PRIVATE: Final = 0o600


def given(folder: Path) -> dict[str, str]:
    """The environment over the folder's `.env`, as a service started in that folder sees it.

    Raises BadEnvironment if that file cannot be read.
    """
    return read_env(folder / ".env") | around()


def around() -> dict[str, str]:
    """The environment, with values stripped and empty values left out."""
    return {name: bare for name, value in os.environ.items() if (bare := stripped(value))}


def read_env(path: Path) -> dict[str, str]:
    """The settings in an env file; empty if there is no such file. Raises BadEnvironment if it cannot be read."""
    return {name: bare for name, value in read_env_file(path).values.items() if (bare := stripped(value))}


def write_env(path: Path, values: Mapping[str, str]) -> None:
    """Write an env file, readable by its owner only, completely or not at all; a shell can source it too.

    Raises BadEnvironment for a value with a line break.
    """
    text = "".join(f"{name}={_quoted(name, value)}\n" for name, value in values.items())
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.rename(path)


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without Segue's settings, except those of traces and logs."""
    kept = {name for name in SETTINGS if name.startswith("OTEL_") or name == "LOG_LEVEL"}
    return {name: value for name, value in environ.items() if name in kept or name not in SETTINGS}


def _quoted(name: str, value: str) -> str:
    if "\n" in value or "\r" in value:
        raise BadEnvironment(f"{name}: has a line break, which an env file cannot keep: take it out")
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
