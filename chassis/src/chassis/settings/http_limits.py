"""The limits of a listener on size, time and number, each of which is a setting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Self

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

Network = IPv4Network | IPv6Network

HEALTH_CONNECTIONS: Final = 64
"""Open connections of a listener that serves the health pages only."""
_HEALTH_PER_PEER: Final = 16
_NO_PROXIES: Final = "none"


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of one listener. Sizes in bytes, times in seconds."""

    connections: int = 2000
    connections_per_peer: int = 500
    trusted: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    """Networks whose connections are not counted per peer, and whose X-Forwarded-* headers are trusted."""
    request_line_bytes: int = 8192
    header_bytes: int = 32_768
    headers: int = 100
    header_timeout_s: float = 10
    body_timeout_s: float = 20
    body_rate: int = 500
    idle_timeout_s: float = 75
    write_timeout_s: float = 30
    buffered_bytes: int = 33_554_432

    @property
    def health(self) -> Self:
        """The limits of a listener that serves the health pages only, with fewer connections."""
        return replace(
            self,
            connections=min(self.connections, HEALTH_CONNECTIONS),
            connections_per_peer=min(self.connections_per_peer, _HEALTH_PER_PEER),
        )


_DEFAULT: Final = HttpLimits()


class HttpSettings(BaseSettings):
    """The settings of every service's listener."""

    max_connections: int = Field(
        default=_DEFAULT.connections,
        ge=16,
        le=1_000_000,
        validation_alias="SEGUE_MAX_CONNECTIONS",
        description="Open connections in all; fewer where the process may not open enough files.",
    )
    max_connections_per_peer: int = Field(
        default=_DEFAULT.connections_per_peer,
        ge=1,
        le=1_000_000,
        validation_alias="SEGUE_MAX_CONNECTIONS_PER_PEER",
        description="Open connections of one address; of one /64 network in IPv6.",
    )
    trusted_proxies: str = Field(
        default=",".join(map(str, _DEFAULT.trusted)),
        validation_alias="SEGUE_TRUSTED_PROXIES",
        description="Addresses or networks of proxies: not counted per peer, and believed in X-Forwarded-*.",
    )
    max_request_line_bytes: int = Field(
        default=_DEFAULT.request_line_bytes,
        ge=256,
        le=1_000_000,
        validation_alias="SEGUE_MAX_REQUEST_LINE_BYTES",
        description="Bytes of a request's path and query.",
    )
    max_header_bytes: int = Field(
        default=_DEFAULT.header_bytes,
        ge=1024,
        le=1_000_000,
        validation_alias="SEGUE_MAX_HEADER_BYTES",
        description="Bytes of a request's headers in all, trailers among them.",
    )
    max_headers: int = Field(
        default=_DEFAULT.headers,
        ge=16,
        le=10_000,
        validation_alias="SEGUE_MAX_HEADERS",
        description="Headers of a request, trailers among them.",
    )
    header_timeout_s: float = Field(
        default=_DEFAULT.header_timeout_s,
        gt=0,
        le=3600,
        validation_alias="SEGUE_HEADER_TIMEOUT_S",
        description="Seconds in which a request's headers have to arrive.",
    )
    body_timeout_s: float = Field(
        default=_DEFAULT.body_timeout_s,
        gt=0,
        le=3600,
        validation_alias="SEGUE_BODY_TIMEOUT_S",
        description="Seconds in which a request's body has to arrive.",
    )
    min_body_rate: int = Field(
        default=_DEFAULT.body_rate,
        ge=0,
        le=1_000_000,
        validation_alias="SEGUE_MIN_BODY_RATE",
        description="Bytes a second that half of that time must have brought, of a body that is still incomplete.",
    )
    idle_timeout_s: float = Field(
        default=_DEFAULT.idle_timeout_s,
        gt=0,
        le=3600,
        validation_alias="SEGUE_IDLE_TIMEOUT_S",
        description="Seconds for which a connection is kept between requests.",
    )
    write_timeout_s: float = Field(
        default=_DEFAULT.write_timeout_s,
        gt=0,
        le=3600,
        validation_alias="SEGUE_WRITE_TIMEOUT_S",
        description="Seconds for which a client may take nothing of an answer.",
    )
    max_buffered_bytes: int = Field(
        default=_DEFAULT.buffered_bytes,
        ge=1_000_000,
        le=100_000_000_000,
        validation_alias="SEGUE_MAX_BUFFERED_BYTES",
        description="Bytes of unfinished requests and unread answers in memory, of all connections together.",
    )

    @property
    def http_limits(self) -> HttpLimits:
        """The limits of the listener."""
        return HttpLimits(
            connections=self.max_connections,
            connections_per_peer=self.max_connections_per_peer,
            trusted=_networks(self.trusted_proxies),
            request_line_bytes=self.max_request_line_bytes,
            header_bytes=self.max_header_bytes,
            headers=self.max_headers,
            header_timeout_s=self.header_timeout_s,
            body_timeout_s=self.body_timeout_s,
            body_rate=self.min_body_rate,
            idle_timeout_s=self.idle_timeout_s,
            write_timeout_s=self.write_timeout_s,
            buffered_bytes=self.max_buffered_bytes,
        )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        return ",".join(map(str, _networks(value))) or _NO_PROXIES


def _networks(listed: str) -> tuple[Network, ...]:
    networks: list[Network] = []
    if listed.strip() == _NO_PROXIES:
        return ()
    for text in filter(None, map(str.strip, listed.split(","))):
        try:
            networks.append(ip_network(text))
        except ValueError:
            raise ValueError(f"must be addresses or networks with commas between, or none; {text!r} is not") from None
    return tuple(networks)
