"""The OTLP endpoint and its headers in all accepted spellings; errors of OpenTelemetry are one line."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chassis.http.server import serve_http
from chassis.observability.logs import configure_logs
from chassis.observability.telemetry import make_telemetry
from chassis.settings.otlp import TraceExport, otlp_headers, otlp_target


@pytest.mark.parametrize(
    ("base", "exact", "url"),
    [
        ("http://127.0.0.1:4318", False, "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", False, "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/v1/traces", False, "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/v1/traces/", False, "http://127.0.0.1:4318/v1/traces"),
        ("https://otlp.example/otlp", False, "https://otlp.example/otlp/v1/traces"),
        ("https://otlp.example/any/path", True, "https://otlp.example/any/path"),
        ("http://[::1]:4318", False, "http://[::1]:4318/v1/traces"),
    ],
)
def test_the_url_for_traces(base: str, exact: bool, url: str) -> None:
    assert otlp_target(base, exact=exact).url == url


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("127.0.0.1:4318", "must begin with http:// or https://"),
        ("collector:4318", "must begin with http:// or https://"),
        ("collector", "must begin with http:// or https://"),
        ("grpc://collector:4317", "is for gRPC"),
        ("http://collector:4317", "has the port of gRPC"),
        ("http://", "names no host"),
        ("http://collector:port", "Port could not be cast"),
        ("http://collector:4318?a=b", "neither a query nor a fragment"),
        ("http://coll\u200bector:4318", "has U+200B ZERO WIDTH SPACE as character 12"),
    ],
)
def test_an_invalid_endpoint_is_refused_with_the_reason(base: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        otlp_target(base)


def test_http_at_the_port_of_grpc_is_accepted_if_stated() -> None:
    assert otlp_target("http://collector:4317", protocol="http/protobuf").url == "http://collector:4317/v1/traces"
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_PROTOCOL"):
        otlp_target("http://collector:4318", protocol="grpc")
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_PROTOCOL"):
        otlp_target("http://collector:4318", protocol="http/json")


def test_credentials_in_the_url_become_a_header() -> None:
    target = otlp_target("https://me:hun%40ter2@otlp.example", headers="X-Scope=a%20b, y=1,")
    assert target.url == "https://otlp.example/v1/traces"
    assert target.headers == {
        "authorization": f"Basic {base64.b64encode(b'me:hun@ter2').decode()}",
        "x-scope": "a b",
        "y": "1",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("authorization: Bearer hunter2", "must be name=value, with commas between, and entry 1 is not"),
        ("a=1,hunter2", "entry 2 is not"),
        ("bad name=hunter2", "entry 1 is not"),
        ("a=hunter2\nb", "entry 1 has U+000A LINE FEED as character 8 of 9"),
        ("a=hunter2%0d%0ab", "entry 1 has U+000D CARRIAGE RETURN"),
        ("a=1,Content-Length=hunter2", "entry 2 is content-length, which the sender of a request sets by itself"),
        ("transfer-encoding=hunter2", "entry 1 is transfer-encoding"),
        ("a=%ff", "has escapes in entry 1 that are no UTF-8"),
    ],
)
def test_invalid_headers_are_reported_without_their_values(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as raised:
        otlp_headers(text)
    assert "hunter2" not in str(raised.value)


async def test_the_headers_are_sent() -> None:
    got: list[dict[str, str]] = []

    async def traces(incoming: Request) -> Response:
        got.append(dict(incoming.headers))
        return Response()

    app = Starlette(routes=[Route("/v1/traces", traces, methods=["POST"])])
    async with serve_http(app, "127.0.0.1", 0) as port:
        target = otlp_target(f"http://me:secret@127.0.0.1:{port}/v1/traces/", headers="x-a=b")
        telemetry = make_telemetry("toy", TraceExport(target))
        with telemetry.span("work"):
            pass
        await asyncio.to_thread(telemetry.close)
    assert got[0]["x-a"] == "b"
    assert got[0]["authorization"] == f"Basic {base64.b64encode(b'me:secret').decode()}"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The log output of a service."""
    import structlog

    before, said = structlog.get_config(), io.StringIO()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(sys, "stdout", said)
    configure_logs("toy", "INFO")
    yield said
    structlog.configure(**before)
    root.handlers[:], root.level = handlers, level


def test_an_error_of_opentelemetry_is_one_line(lines: io.StringIO) -> None:
    failed = ConnectionError("nobody\nthere")
    exporter = logging.getLogger("opentelemetry.sdk._shared_internal")
    exporter.error("Exception while exporting %s.", "Span", exc_info=failed)
    logging.getLogger("other").error("it failed", exc_info=failed)
    ours, theirs = map(json.loads, lines.getvalue().splitlines())
    assert (ours["event"], ours["error"]) == ("Exception while exporting Span.", "ConnectionError: nobody\nthere")
    assert "exception" not in ours
    assert "ConnectionError" in theirs["exception"]


def test_a_log_line_contains_no_control_characters(lines: io.StringIO) -> None:
    logging.getLogger("other").warning("a prompt: %s", "\x1b[31m \x9b \x7f \u202e \x08\r")
    text = lines.getvalue()
    assert text.isascii()
    assert [char for char in text if not char.isprintable()] == ["\n"]
    assert json.loads(text)["event"] == "a prompt: \x1b[31m \x9b \x7f \u202e \x08\r"
