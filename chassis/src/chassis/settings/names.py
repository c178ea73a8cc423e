"""The names of all settings: a service knows those of the others by this list, which a test compares with the classes.

What belongs to one provider is in its specification.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, get_args

from pydantic import AliasChoices, AliasPath, SecretStr
from pydantic_settings import BaseSettings

from chassis.settings.header_values import stripped
from contracts.providers.registry import PROVIDERS

SECRETS: Final = (
    "DATABASE_URL",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_KEY_PASSWORD",
    "SEGUE_CALLBACK_SECRET",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    *(name for spec in PROVIDERS.values() for name in spec.secrets),
)
"""The settings that are secret. `NAME_FILE` names a file with the value of each."""

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
"""How a cluster of Kafka is reached."""

SETTINGS: Final = (
    "KAFKA_BOOTSTRAP_SERVERS",
    *KAFKA_SECURITY,
    "SEGUE_TOPIC_PREFIX",
    "SEGUE_TOPIC_PARTITIONS",
    "SEGUE_KAFKA_SESSION_TIMEOUT_S",
    "SEGUE_KAFKA_FETCH_WAIT_MS",
    "DATABASE_URL",
    "SEGUE_PROVIDERS",
    "MUSIC_PROVIDER",
    "SEGUE_ADAPTER_SILENT_S",
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
    "SEGUE_OPERATOR_CALLS",
    "SEGUE_ACCESS_LOG",
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
    "SEGUE_DRAIN_S",
    "SEGUE_ARTIFACT_RETENTION_DAYS",
    "SEGUE_ROW_RETENTION_DAYS",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_TRACES_EXPORTER",
    "OTEL_SDK_DISABLED",
    "SEGUE_TRACE_READS",
    "SEGUE_TRACE_URL",
    "LOG_LEVEL",
    "LOG_FORMAT",
    *(name for spec in PROVIDERS.values() for name in spec.settings),
)
"""Every setting that a service reads."""

TOOLS: Final = (
    "SEGUE_API",
    "SEGUE_SANDBOX_URL",
    "SEGUE_SERVICES",
    "SEGUE_CRASH_AT",
    "SEGUE_TEST_PATIENCE",
    "SEGUE_TEST_HOSTILE",
    "SEGUE_TEST_JOBS",
)
"""Variables that the command line, the fault tests and the tests read."""

SUFFIX: Final = "_FILE"
"""Appended to the name of a secret, it is the name of the variable with the path of its file."""

_OURS: Final = ("SEGUE_", "KAFKA_")
# Kubernetes and Docker describe other services in these variables, by the name of each.
_SERVICE_LINK: Final = re.compile(r"\w+_SERVICE_(?:HOST|PORT)(?:_\w+)?|\w+_PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?")
_LINK_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://")
_SIMILAR: Final = 0.75
_MOST_SHOWN: Final = 80


def names_of(kind: type[BaseSettings]) -> set[str]:
    """The names of a class's settings."""
    return {alias for field in kind.model_fields.values() for alias in aliases(field.validation_alias)}


def secrets_of(kind: type[BaseSettings]) -> set[str]:
    """The names of a class's settings that are secret."""
    secret = (field for field in kind.model_fields.values() if _is_secret(field.annotation))
    return {alias for field in secret for alias in aliases(field.validation_alias)}


def aliases(alias: str | AliasPath | AliasChoices | None) -> list[str]:
    """The names under which a field is read."""
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [choice for choice in choices if isinstance(choice, str)]


def unknown_names(environ: Mapping[str, str], own: Collection[str] = ()) -> tuple[str, ...]:
    """Messages about the variables named `SEGUE_…` or `KAFKA_…` that nothing in Segue reads; `own` are known too."""
    offered = {*SETTINGS, *own, *TOOLS[:1]}
    known = {*offered, *TOOLS, *(name + SUFFIX for name in (*SECRETS, *own))}
    return tuple(_message(name, offered) for name in sorted(_unread(environ, known)))


def _unread(environ: Mapping[str, str], known: Collection[str]) -> Iterator[str]:
    for name, value in environ.items():
        link = _SERVICE_LINK.fullmatch(name) or _LINK_ADDRESS.match(value)
        # Names are read in any case.
        if name.upper().startswith(_OURS) and name.upper() not in known and stripped(value) and not link:
            yield name


def _message(name: str, offered: Collection[str]) -> str:
    shown = name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}…"
    what = f"{shown} is not a setting of Segue"
    # Compared without the prefix, which is often what is wrong.
    wanted = {_bare(each): each for each in sorted(offered)}
    if near := get_close_matches(_bare(name.upper().removesuffix(SUFFIX)), wanted, n=1, cutoff=_SIMILAR):
        setting = wanted[near[0]]
        return f"{what}; did you mean {setting}{SUFFIX if name.endswith(SUFFIX) and setting in SECRETS else ''}?"
    return f"{what}, and nothing reads it"


def _bare(name: str) -> str:
    return name.removeprefix("SEGUE_").removeprefix("KAFKA_")


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))
