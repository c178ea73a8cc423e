"""The settings of OpenTelemetry: each family in one line if it is wrong, and read by the SDK if it is right."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chassis.http.server import serve_http
from chassis.observability.telemetry import make_telemetry
from chassis.settings.otel import READ_BY_SDK, otel_faults
from chassis.settings.otlp import TraceExport, otlp_target, trace_exporters
from chassis.settings.service import ServiceSettings, WrongSettings, settings_of

ROOT = Path(__file__).resolve().parents[3]
RIGHT = {"KAFKA_BOOTSTRAP_SERVERS": "a:9092", "DATABASE_URL": "postgresql://me@db/segue"}
EXPORTED = RIGHT | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}

WRONG = [
    ({"OTEL_SDK_DISABLED": "yes"}, "OTEL_SDK_DISABLED: must be true or false"),
    ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: must be otlp, console"),
    ({"OTEL_TRACES_EXPORTER": "none,otlp"}, "OTEL_TRACES_EXPORTER: must be none alone"),
    ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "whose exporter is not installed: set http/protobuf"),
    ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT: "),
    ({"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "-1"}, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "),
    ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "OTEL_EXPORTER_OTLP_COMPRESSION: must be one of none, gzip, deflate"),
    ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere"}, "OTEL_EXPORTER_OTLP_CERTIFICATE: must name a PEM file"),
    ({"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": __file__}, "CERTIFICATE: must name a PEM file with certificates"),
    ({"OTEL_EXPORTER_OTLP_CLIENT_KEY": __file__}, "OTEL_EXPORTER_OTLP_CLIENT_KEY: is set without"),
    ({"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": __file__}, "cannot be used with its key"),
    ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER: must be one of always_on"),
    ({"OTEL_TRACES_SAMPLER": "traceidratio"}, "OTEL_TRACES_SAMPLER_ARG is not set"),
    ({"OTEL_TRACES_SAMPLER_ARG": "half"}, "OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1"),
    ({"OTEL_TRACES_SAMPLER_ARG": "nan"}, "OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1"),
    ({"OTEL_RESOURCE_ATTRIBUTES": "team"}, "OTEL_RESOURCE_ATTRIBUTES: must be name=value"),
    ({"OTEL_BSP_SCHEDULE_DELAY": "often"}, "OTEL_BSP_SCHEDULE_DELAY: "),
    ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "OTEL_BSP_MAX_QUEUE_SIZE: must be a whole number from 1 on"),
    ({"OTEL_BSP_MAX_QUEUE_SIZE": "9"}, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE: is 512, more than OTEL_BSP_MAX_QUEUE_SIZE"),
    ({"OTEL_PROPAGATORS": "b3"}, "OTEL_PROPAGATORS: must be tracecontext"),
    ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: must be a whole number"),
    ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "-1"}, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT: must be a whole number"),
    ({"OTEL_SPAN_LINK_COUNT_LIMIT": "x"}, "OTEL_SPAN_LINK_COUNT_LIMIT: must be a whole number"),
]


@pytest.mark.parametrize(
    ("wrong", "told"), WRONG, ids=lambda value: next(iter(value)) if isinstance(value, dict) else ""
)
def test_a_wrong_value_is_one_line_that_names_it(wrong: dict[str, str], told: str) -> None:
    with pytest.raises(WrongSettings) as raised:
        settings_of(ServiceSettings, EXPORTED | wrong)
    line = str(raised.value)
    assert told in line
    assert "\n" not in line


def test_a_service_with_wrong_values_ends_with_one_line_and_no_traceback() -> None:
    wrong = {"OTEL_PROPAGATORS": "b3", "OTEL_SPAN_EVENT_COUNT_LIMIT": "many", "OTEL_TRACES_SAMPLER": "often"}
    command = [sys.executable, "-m", "log_sink"]
    done = subprocess.run(
        command, env=EXPORTED | wrong | {"PATH": os.defpath}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1)
    assert all(f"{name}: must be " in done.stderr for name in wrong)


def test_what_a_platform_sets_does_not_matter_where_nothing_is_exported() -> None:
    wrong = {"OTEL_PROPAGATORS": "b3", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert settings_of(ServiceSettings, RIGHT | wrong).traces is None
    for off in ({"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}):
        assert settings_of(ServiceSettings, EXPORTED | {"OTEL_PROPAGATORS": "b3"} | off).traces is None


def test_right_values_are_accepted() -> None:
    right = {
        "OTEL_PROPAGATORS": "tracecontext,baggage",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
        "OTEL_RESOURCE_ATTRIBUTES": "team=music,stage=live,",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SPAN_LINK_COUNT_LIMIT": "unset",
        "OTEL_BSP_MAX_QUEUE_SIZE": "4096",
        "OTEL_SERVICE_NAME": "mine",
    }
    assert list(otel_faults(right)) == []
    more = {"OTEL_TRACES_EXPORTER": "otlp, console", "OTEL_EXPORTER_OTLP_TIMEOUT": "7", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    found = settings_of(ServiceSettings, RIGHT | right | more).traces
    assert found == TraceExport(otlp_target("http://localhost:4318"), console=True, timeout_s=7, every_ms=50)
    assert trace_exporters("") == frozenset()


async def test_the_sdk_reads_its_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    got: list[tuple[str | None, bytes]] = []

    async def traces(incoming: Request) -> Response:
        got.append((incoming.headers.get("content-encoding"), await incoming.body()))
        return Response()

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=music,service.version=9")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")
    app = Starlette(routes=[Route("/v1/traces", traces, methods=["POST"])])
    async with serve_http(app, "127.0.0.1", 0) as port:
        telemetry = make_telemetry("toy", TraceExport(otlp_target(f"http://127.0.0.1:{port}"), console=True))
        with telemetry.span("work", attributes={"a": 1, "b": 2}):
            pass
        await asyncio.to_thread(telemetry.close)
    assert [encoding for encoding, _ in got] == ["gzip"]
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert re.search(r'"team": "music"', line)
    assert re.search(r'"service.name": "mine"', line)
    assert re.search(r'"service.version": "9"', line)
    assert '"attributes": {"b": 2}' in line


def test_a_sampler_of_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    telemetry = make_telemetry("toy", TraceExport(None, console=False))
    with telemetry.span("work") as span:
        assert not span.is_recording()
    telemetry.close()


def test_the_document_has_every_setting() -> None:
    rows = re.findall(r"^\| (`OTEL_[^|]+) \|", (ROOT / "docs/traces.md").read_text("utf-8"), re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"OTEL_\w+", row)]
    ours = {alias for alias in _names() if alias.startswith("OTEL_")}
    assert sorted(listed) == sorted({*READ_BY_SDK, *ours})


def _names() -> set[str]:
    from chassis.settings.names import names_of

    return names_of(ServiceSettings)
