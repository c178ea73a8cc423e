"""Where traces go: the receiver and its headers, from OpenTelemetry's own settings.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from chassis.settings.header_values import header_fault, text_fault

PATH: Final = "/v1/traces"
_GRPC_PORT: Final = 4317
_PROTOCOL: Final = "http/protobuf"
_GRPC: Final = "grpc"
_EXPORTERS: Final = ("otlp", "console", "none")
_DEFAULT: Final = "http://localhost:4318"
"""Where the specification has traces go that are exported to no address in particular."""
_CONNECTION_HEADERS: Final = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive",
     "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)  # fmt: skip
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True)
class OtlpTarget:
    """An OTLP receiver."""

    url: str
    """The complete URL to which spans are sent."""
    headers: Mapping[str, str] = field(default_factory=dict)
    grpc: bool = False
    """The receiver is gRPC: its exporter reads its own settings, and `url` and `headers` are not used."""


@dataclass(frozen=True, slots=True)
class TraceExport:
    """How spans are exported."""

    target: OtlpTarget | None
    console: bool = False
    """Spans are also written to stdout, as JSON, one on each line."""
    timeout_s: float = 5
    """Seconds that one export may take."""
    every_ms: float = 500
    """Milliseconds between two exports."""


def trace_exporters(text: str) -> frozenset[str]:
    """The exporters in a comma-separated list; empty for `none`. Raises ValueError."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in _EXPORTERS]:
        raise ValueError(f"must be otlp, console, both with a comma between, or none; {unknown[0]!r} is neither")
    if "none" in names and len(names) > 1:
        raise ValueError("must be none alone, or without none")
    return frozenset(names) - {"none"}


def otlp_target(
    base: str = _DEFAULT, *, exact: bool = False, headers: str = "", protocol: str | None = None
) -> OtlpTarget:
    """The receiver at a base URL, or at that URL itself if `exact`.

    Raises ValueError with a message for the operator.
    """
    if fault := header_fault(base):
        raise ValueError(fault)
    if protocol == _GRPC:
        return _grpc_target(base)
    if protocol not in (None, _PROTOCOL):
        raise ValueError("cannot be used with OTEL_EXPORTER_OTLP_PROTOCOL other than http/protobuf or grpc")
    url = urlsplit(base)
    if url.scheme in ("grpc", "grpcs"):
        raise ValueError(
            "is for gRPC, and Segue sends OTLP over HTTP: http://host:4318 where the receiver has that too"
        )
    if url.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://, as in http://127.0.0.1:4318")
    if not url.hostname or url.port == 0:  # `port` raises ValueError itself if it is no number.
        raise ValueError("names no host, as http://127.0.0.1:4318 does")
    if url.port == _GRPC_PORT and protocol != _PROTOCOL:
        raise ValueError(
            "has the port of gRPC, and Segue sends OTLP over HTTP: port 4318 as a rule; if it is HTTP at 4317 all the"
            " same, set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
        )
    if url.query or url.fragment:
        raise ValueError("must have neither a query nor a fragment")
    path = url.path if exact else f"{url.path.rstrip('/').removesuffix(PATH)}{PATH}"
    login, _, place = url.netloc.rpartition("@")
    all_headers = {**({"authorization": _basic(login)} if login else {}), **otlp_headers(headers)}
    return OtlpTarget(urlunsplit((url.scheme, place, path, "", "")), all_headers)


def otlp_headers(text: str) -> dict[str, str]:
    """The headers in a comma-separated list of `name=value`, percent-encoded. Raises ValueError without the values."""
    headers: dict[str, str] = {}
    for position, part in enumerate(text.split(","), start=1):
        if not part.strip():
            continue
        name, is_there, value = (each.strip() for each in part.partition("="))
        if not is_there or not name or set(name) - _TOKEN:
            raise ValueError(f"must be name=value, with commas between, and entry {position} is not")
        if name.lower() in _CONNECTION_HEADERS:
            raise ValueError(f"entry {position} is {name.lower()}, which the sender of a request sets by itself")
        try:
            decoded = unquote(value, errors="strict").strip()
        except UnicodeDecodeError:
            raise ValueError(f"has escapes in entry {position} that are no UTF-8") from None
        if fault := text_fault(decoded):
            raise ValueError(f"entry {position} {fault}")
        headers[name.lower()] = decoded
    return headers


def _grpc_target(base: str) -> OtlpTarget:
    if not entry_points(group="opentelemetry_traces_exporter", name="otlp_proto_grpc"):
        raise ValueError(
            "cannot be used with OTEL_EXPORTER_OTLP_PROTOCOL=grpc, whose exporter is not installed: set http/protobuf,"
            " or install opentelemetry-exporter-otlp-proto-grpc"
        )
    return OtlpTarget(base, grpc=True)


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(unquote(login).encode()).decode()}"
