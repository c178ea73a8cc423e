"""The settings of traces that Segue reads; what the SDK of OpenTelemetry reads itself is in `otel.py`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from chassis.settings.otel import otel_faults
from chassis.settings.otlp import TraceExport, otlp_headers, otlp_target, trace_exporters


class TraceSettings(BaseSettings):
    """Where traces go, and how."""

    # These two come first, because the validation of the endpoints uses them.
    otlp_protocol: str | None = Field(
        default=None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
        description="http/protobuf: the endpoint is HTTP although its port is 4317. grpc: it is gRPC.",
    )
    otlp_headers: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
        description="Headers sent with traces: name=value, with commas between.",
    )
    otlp_endpoint: str | None = Field(
        default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT", description="Where traces go; unset: nowhere."
    )
    otlp_traces_endpoint: str | None = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        description="The whole address of traces, in the place of the one that is made of OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    otlp_timeout_s: float = Field(
        default=5,
        gt=0,
        le=600,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"),
        description="Seconds that one export of traces may take.",
    )
    export_every_ms: int = Field(
        default=500,
        gt=0,
        le=600_000,
        validation_alias="OTEL_BSP_SCHEDULE_DELAY",
        description="Milliseconds between two exports of traces.",
    )
    traces_exporter: str | None = Field(
        default=None,
        validation_alias="OTEL_TRACES_EXPORTER",
        description="otlp, console or none; unset: otlp where an endpoint is set.",
    )
    sdk_disabled: str | None = Field(
        default=None, validation_alias="OTEL_SDK_DISABLED", description="true: no traces at all."
    )

    @field_validator("otlp_headers")
    @classmethod
    def _are_headers(cls, value: SecretStr) -> SecretStr:
        otlp_headers(value.get_secret_value())
        return value

    @field_validator("traces_exporter")
    @classmethod
    def _is_an_exporter(cls, value: str | None) -> str | None:
        trace_exporters(value or "")
        return value

    @field_validator("sdk_disabled")
    @classmethod
    def _is_true_or_false(cls, value: str | None) -> str | None:
        # The SDK reads it itself, and takes nothing else for true.
        if value is not None and value.lower() not in ("true", "false"):
            raise ValueError("must be true or false")
        return value

    @field_validator("otlp_endpoint", "otlp_traces_endpoint")
    @classmethod
    def _is_a_receiver(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            otlp_target(value, protocol=info.data.get("otlp_protocol"))
        return value

    @property
    def traces(self) -> TraceExport | None:
        """How traces are exported; None if they are not. Raises ValueError."""
        url = self.otlp_traces_endpoint or self.otlp_endpoint
        named = None if self.traces_exporter is None else trace_exporters(self.traces_exporter)
        exporters = named if named is not None else frozenset({"otlp"} if url else ())
        if not exporters or (self.sdk_disabled or "").lower() == "true":
            return None
        target = None
        if "otlp" in exporters:
            exact, headers = self.otlp_traces_endpoint is not None, self.otlp_headers.get_secret_value()
            at = {"base": url} if url else {}
            target = otlp_target(**at, exact=exact, headers=headers, protocol=self.otlp_protocol)
        return TraceExport(target, "console" in exporters, self.otlp_timeout_s, self.export_every_ms)

    def trace_faults(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """What is wrong with how traces are exported; nothing if they are not, as a platform may set anything then."""
        try:
            exported = self.traces is not None
        except ValueError as error:  # The validators have seen the protocol with an endpoint only.
            return (f"OTEL_TRACES_EXPORTER: {error}",)
        return tuple(otel_faults(environ)) if exported else ()
