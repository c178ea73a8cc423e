"""The settings of OpenTelemetry that its SDK reads itself, and what each may be.

The SDK takes a default for most wrong values, after a warning. Here a wrong value is an error that names its setting,
as for any other setting. https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from chassis.settings.header_values import stripped

Check = Callable[[str], str | None]
"""What a value has to be, as the end of a sentence; None if it is that."""

_RATIOS: Final = ("traceidratio", "parentbased_traceidratio")
_SAMPLERS: Final = ("always_on", "always_off", "parentbased_always_on", "parentbased_always_off", *_RATIOS)
_PROPAGATORS: Final = frozenset({"tracecontext", "baggage"})


def _count(text: str, *, least: int = 1) -> str | None:
    return (
        None if text.isascii() and text.isdigit() and int(text) >= least else f"must be a whole number from {least} on"
    )


def _limit(text: str) -> str | None:
    return None if not text.strip() or text.strip().lower() == "unset" else _count(text, least=0)


def _ratio(text: str) -> str | None:
    try:
        fine = 0 <= float(text) <= 1
    except ValueError:
        fine = False
    return None if fine else "must be a number from 0 to 1"


def _seconds(text: str) -> str | None:
    try:
        fine = 0 < float(text) < math.inf
    except ValueError:
        fine = False
    return None if fine else "must be a number of seconds above 0"


def _one_of(names: tuple[str, ...], text: str) -> str | None:
    return None if text.lower() in names else f"must be one of {', '.join(names)}"


def _propagators(text: str) -> str | None:
    named = {name.strip() for name in text.split(",")}
    return (
        None
        if "tracecontext" in named <= _PROPAGATORS
        else ("must be tracecontext, or tracecontext,baggage: Segue passes the W3C trace context on in its messages")
    )


def _attributes(text: str) -> str | None:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    fine = all(name.strip() and equals for name, equals, _ in pairs)
    return None if fine else "must be name=value, with commas between"


def _authorities(text: str) -> str | None:
    try:
        ssl.create_default_context(cafile=text)
    except (OSError, ValueError) as error:
        return f"must name a PEM file with certificates: {_reason(error)}"
    return None


def _file(text: str) -> str | None:
    try:
        Path(text).read_bytes()
    except (OSError, ValueError) as error:
        return f"must name a PEM file: {_reason(error)}"
    return None


def _signal(name: str, check: Check) -> dict[str, Check]:
    return {f"OTEL_EXPORTER_OTLP_{name}": check, f"OTEL_EXPORTER_OTLP_TRACES_{name}": check}


READ_BY_SDK: Final[Mapping[str, Check]] = {
    "OTEL_SERVICE_NAME": lambda _: None,
    "OTEL_RESOURCE_ATTRIBUTES": _attributes,
    "OTEL_PROPAGATORS": _propagators,
    "OTEL_TRACES_SAMPLER": partial(_one_of, _SAMPLERS),
    "OTEL_TRACES_SAMPLER_ARG": _ratio,
    "OTEL_BSP_MAX_QUEUE_SIZE": _count,
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": _count,
    "OTEL_BSP_EXPORT_TIMEOUT": _count,
    "OTEL_ATTRIBUTE_COUNT_LIMIT": _limit,
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": _limit,
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": _limit,
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": _limit,
    "OTEL_SPAN_EVENT_COUNT_LIMIT": _limit,
    "OTEL_SPAN_LINK_COUNT_LIMIT": _limit,
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": _limit,
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": _limit,
    **_signal("COMPRESSION", partial(_one_of, ("none", "gzip", "deflate"))),
    **_signal("CERTIFICATE", _authorities),
    **_signal("CLIENT_CERTIFICATE", _file),
    **_signal("CLIENT_KEY", _file),
}
"""Each setting that the SDK reads, with its check."""


def otel_faults(environ: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the settings that the SDK reads, one sentence for each."""
    given = {name: bare for name in READ_BY_SDK if (bare := stripped(environ.get(name, "")))}
    for name, value in given.items():
        if (fault := READ_BY_SDK[name](value)) is not None:
            yield f"{name}: {fault}"
    if given.get("OTEL_TRACES_SAMPLER", "").lower() in _RATIOS and "OTEL_TRACES_SAMPLER_ARG" not in given:
        yield "OTEL_TRACES_SAMPLER_ARG is not set, and the sampler is by ratio: a number from 0 to 1"
    yield from _batch_faults(given)
    yield from _certificate_faults(given)


def _batch_faults(given: Mapping[str, str]) -> Iterator[str]:
    batch, queue = (given.get(name, usual) for name, usual in _SIZES)
    if batch.isdigit() and queue.isdigit() and int(batch) > int(queue):
        yield f"OTEL_BSP_MAX_EXPORT_BATCH_SIZE: is {batch}, more than OTEL_BSP_MAX_QUEUE_SIZE, which is {queue}"


_SIZES: Final = (("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512"), ("OTEL_BSP_MAX_QUEUE_SIZE", "2048"))


def _certificate_faults(given: Mapping[str, str]) -> Iterator[str]:
    certificate, key = (
        given.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or given.get(f"OTEL_EXPORTER_OTLP_{name}")
        for name in ("CLIENT_CERTIFICATE", "CLIENT_KEY")
    )
    if key and not certificate:
        yield "OTEL_EXPORTER_OTLP_CLIENT_KEY: is set without OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
    elif certificate and Path(certificate).is_file() and (not key or Path(key).is_file()):
        try:
            # Without a password, which would be asked for at the terminal.
            ssl.create_default_context().load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            yield f"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: cannot be used with its key: {_reason(error)}"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
