"""Types of settings that several services have, with their validation."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from chassis.settings.header_values import header_fault, text_fault
from chassis.settings.kafka.servers import read_servers

_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?")


def _sendable(value: SecretStr) -> SecretStr:
    if fault := header_fault(value.get_secret_value()):
        raise ValueError(fault)
    return value


def _signable(value: SecretStr) -> SecretStr:
    if fault := text_fault(value.get_secret_value()):
        raise ValueError(fault)
    return value


def _http_url(value: str) -> str:
    if fault := header_fault(value):
        raise ValueError(fault)
    try:
        url = urlsplit(value)
        fine = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ValueError("must begin with https:// or http:// and name a host")
    if url.username is not None:
        raise ValueError("must not contain a user or a password; keys and tokens have settings of their own")
    return value


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError("must be a host, or host:port, without https:// and without a path")
    return value


def _servers(value: str) -> str:
    return ",".join(read_servers(value))


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


HeaderSecret = Annotated[SecretStr, AfterValidator(_sendable)]
"""A key or token that is sent in a header: visible ASCII."""
SigningSecret = Annotated[SecretStr, AfterValidator(_signable)]
"""A secret for signatures: visible ASCII and spaces."""
HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""A URL without credentials, since URLs appear in logs and errors."""
HostName = Annotated[str, AfterValidator(_host)]
KafkaServers = Annotated[str, AfterValidator(_servers)]
"""host:port of one broker or several, separated by commas."""
LogFormat = Annotated[Literal["json", "console", "auto"], BeforeValidator(_lower)]
"""How log records are written: as JSON, for people, or for people where stdout is a terminal and as JSON elsewhere."""
