"""Kafka's bootstrap servers: parsing of the addresses."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*)://")
_PLAIN: Final = ("kafka", "plaintext")
_ADDRESS: Final = re.compile(r"(\[[^\[\]]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MAX_NAME_CHARS: Final = 253
_MAX_LABEL_CHARS: Final = 63


def read_servers(text: str) -> tuple[str, ...]:
    """The addresses in a comma-separated list, each as host:port. Raises ValueError with a message for the operator."""
    servers = tuple(_server(each) for part in text.split(",") if (each := part.strip()))
    if not servers:
        raise ValueError("must be host:port, or several with commas between")
    return servers


def _server(text: str) -> str:
    if "@" in text:
        raise ValueError(
            "has an '@': give host:port alone, and the login as KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
        )
    server = text
    if scheme := _SCHEME.match(text):
        if scheme[1].lower() not in _PLAIN:
            raise ValueError(
                f"{text!a} names {scheme[1]}: give host:port alone, and the protocol as KAFKA_SECURITY_PROTOCOL"
            )
        server = text[scheme.end() :].rstrip("/")
    found = _ADDRESS.fullmatch(server)
    if found and 0 < int(found[2]) < 65536 and _is_host(found[1]):
        return server
    if _is_v6(server) or _is_v6(server.rpartition(":")[0]):
        raise ValueError(f"{text!a}: an IPv6 address goes in brackets, as in [::1]:9092")
    raise ValueError(f"must be host:port, or several with commas between, and {text!a} is not")


def _is_host(text: str) -> bool:
    if text.startswith("["):
        return _is_v6(text.strip("[]"))
    # RFC 1035: a resolver cannot look up names with longer or empty labels.
    return len(text) <= _MAX_NAME_CHARS and all(
        0 < len(label) <= _MAX_LABEL_CHARS for label in text.removesuffix(".").split(".")
    )


def _is_v6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
