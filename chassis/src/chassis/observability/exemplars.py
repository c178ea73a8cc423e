"""Exemplars: the trace of one observation of a metric, by which a graph leads to an example."""

from __future__ import annotations

from functools import lru_cache

from opentelemetry import trace

from chassis.observability.telemetry import Telemetry, context_of


def exemplar_of(telemetry: Telemetry, traceparent: str | None) -> dict[str, str] | None:
    """The labels of an exemplar: the id of the trace. None unless the trace is exported, since nobody could open it."""
    if traceparent is None or not telemetry.exporting:
        return None
    trace_id = _sampled(traceparent)
    return None if trace_id is None else {"trace_id": trace_id}


@lru_cache(maxsize=1024)
def _sampled(traceparent: str) -> str | None:
    """The id of the trace (32 hex digits) if it is sampled; None if it is not, or if the traceparent is malformed."""
    of = trace.get_current_span(context_of(traceparent)).get_span_context()
    return format(of.trace_id, "032x") if of.is_valid and of.trace_flags.sampled else None
