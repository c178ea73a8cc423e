"""Kafka's bootstrap servers: parsing of the addresses, and diagnosis if none of them responds."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Final

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*)://")
_PLAIN: Final = ("kafka", "plaintext")
_ADDRESS: Final = re.compile(r"(\[[^\[\]]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MAX_NAME_CHARS: Final = 253
_MAX_LABEL_CHARS: Final = 63
_LIMIT_S: Final = 3.0


def read_servers(text: str) -> tuple[str, ...]:
    """The addresses in a comma-separated list, each as host:port. Raises ValueError with a message for the operator."""
    servers = tuple(_server(each) for part in text.split(",") if (each := part.strip()))
    if not servers:
        raise ValueError("must be host:port, or several with commas between")
    return servers


def _server(text: str) -> str:
    if "@" in text:
        raise ValueError("has an '@', and Segue logs in to no broker: give host:port alone")
    server = text
    if scheme := _SCHEME.match(text):
        if scheme[1].lower() not in _PLAIN:
            raise ValueError(
                f"{text!a} names {scheme[1]}, and Segue connects to Kafka in plain text: name a plain-text listener"
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


async def diagnose_servers(servers: Sequence[str]) -> str:
    """A message on each address: unknown host, no listener, TLS, or a listener that is no Kafka broker."""
    found = await asyncio.gather(*(_diagnose(server) for server in servers))
    return "; ".join(f"{server}: {what}" for server, what in zip(servers, found, strict=True))


async def _diagnose(server: str) -> str:
    host, _, port = server.rpartition(":")
    try:
        async with asyncio.timeout(_LIMIT_S):
            if await _is_tls(host.strip("[]"), int(port)):
                return "it uses TLS, and Segue connects to Kafka in plain text: name a plain-text listener"
    except socket.gaierror as error:
        return f"the host name is not known ({error.strerror})"
    except TimeoutError:
        return "no answer: a firewall, or the wrong address"
    except (OSError, UnicodeError) as error:
        return "nothing listens there" if isinstance(error, ConnectionRefusedError) else str(error)
    return "the server there does not respond as a Kafka broker"


async def _is_tls(host: str, port: int) -> bool:
    """Whether the server responds to a TLS handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # Nothing is sent over it.
    _, plain = await asyncio.open_connection(host, port)
    try:
        with suppress(ConnectionError):
            await plain.start_tls(context, server_hostname=host, ssl_handshake_timeout=_LIMIT_S / 2)
            return True
    except ssl.SSLError as error:
        return error.reason != "WRONG_VERSION_NUMBER"  # A TLS alert is also a response in TLS.
    finally:
        plain.close()
    return False
