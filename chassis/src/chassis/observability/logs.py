"""Structured logs on stdout, one record per line, with the ids of the job, the attempt and the trace.

A record is a JSON object, or text for people. Those of libraries come from the standard library's `logging`. Segue's
own do not go through it, which costs more than to render a record; both are written to the same stream.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from typing import Any, Final

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor

from chassis.observability.log_event import LogEvent, Logger
from chassis.observability.log_limits import OutsideWarnings
from chassis.observability.log_stream import NOT_WRITTEN, LogStream
from chassis.settings.types import LogFormat
from contracts.text import escaped_line

# A value of a type that JSON lacks is written as Python writes it.
_JSON: Final = json.JSONEncoder(default=repr)
_OF_EVERY_RECORD: Final = ("event", "code", "level", "logger", "service", "timestamp")


def configure_logs(service: str, level: str, form: LogFormat = "json") -> None:
    """Write the logs of this process, including those of libraries, to stdout."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # A record is written, whatever the encoding lacks.
    stream = LogStream(sys.stdout)
    handler, limit = logging.StreamHandler(stream), OutsideWarnings()
    handler.lock = stream.lock
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_code,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _Named(service),
    ]
    rendered = _Rendered(_renderers(form))
    structlog.configure(
        processors=[*shared, limit, rendered],
        logger_factory=partial(_Lines, stream),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Otherwise each record assembles its logger anew, at a tenth of its cost.
        cache_logger_on_first_use=True,
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _untraced, rendered],
        )
    )
    handler.addFilter(limit)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # No record has these fields. Python 3.11 has no tasks in its records yet.
    for unused in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, unused, False)
    # These log every request or heartbeat; Segue logs the relevant events itself.
    for noisy in ("httpx", "httpcore", "uvicorn", "aiokafka"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # It warns at every start that topics are not created automatically, which is intended.
    logging.getLogger("chassis.faststream").setLevel(logging.ERROR)


def get_logger(name: str) -> Logger:
    """A logger for one module. It may be made before `configure_logs`, which applies to what is logged after it."""
    logger: Logger = structlog.get_logger(name)
    return logger


class _Lines:
    """Writes the rendered records of one logger."""

    def __init__(self, stream: LogStream, name: str) -> None:
        self.name = name
        self._stream = stream

    def info(self, line: str) -> None:
        """Take one line, which is written soon. A stream that nobody reads any more fails no work."""
        self._stream.write(line + "\n")
        with suppress(*NOT_WRITTEN):
            self._stream.flush_soon()

    def error(self, line: str) -> None:
        """Write one line, and those before it: the process may end right after it."""
        self._stream.write(line + "\n")
        with suppress(*NOT_WRITTEN):
            self._stream.flush()

    debug = warning = info
    critical = error


class _Rendered:
    """Makes a line of a record. One with a value that cannot be rendered says so, as a log call fails no work."""

    def __init__(self, renderers: Sequence[Processor]) -> None:
        self._renderers = renderers

    def __call__(self, logger: Any, method: str, event: EventDict) -> str:
        try:
            return self._line(logger, method, event)
        except Exception as error:  # noqa: BLE001 - a value may be of any type, and its methods raise any error
            known = {name: event[name] for name in _OF_EVERY_RECORD if name in event}
            return self._line(logger, method, {**known, "error": f"the record has no text: {type(error).__name__}"})

    def _line(self, logger: Any, method: str, event: Any) -> str:
        for renderer in self._renderers:
            event = renderer(logger, method, event)
        return str(event)


def _renderers(form: LogFormat) -> list[Processor]:
    """What makes text of a record, as JSON or for people."""
    terminal = sys.stdout.isatty()
    if form == "json" or (form == "auto" and not terminal):
        return [structlog.processors.format_exc_info, _as_json]
    # What follows the renderer would escape its colours as well.
    console = structlog.dev.ConsoleRenderer(colors=terminal, pad_event_to=0, pad_level=True)
    return [structlog.processors.format_exc_info, _in_words, console]


def _as_json(_logger: Any, _method: str, event: EventDict) -> str:
    """The record as JSON. It is printable ASCII, so that it controls no terminal."""
    return _JSON.encode(event)


def _in_words(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The record with values that fit on one line and control no terminal."""
    # The renderer would write what has these names on lines of its own.
    named = {"exception": "traceback", "stack": "stack_trace"}
    return {escaped_line(named.get(name, name)): _word(value) for name, value in event.items()}


def _word(value: Any) -> Any:
    """A text on one line; another value as it is, unless what the renderer makes of it does not fit on one."""
    text = value if isinstance(value, str) else repr(value)
    line = escaped_line(text)
    return value if line == text else line


def _untraced(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replace the traceback in OpenTelemetry's records by the error: undelivered traces are no fault of the code."""
    if str(event.get("logger", "")).startswith("opentelemetry") and (info := event.pop("exc_info", None)):
        error = info[1] if isinstance(info, tuple) else info
        event["error"] = f"{type(error).__name__}: {error}"
    return event


def _add_code(_logger: Any, _method: str, event: EventDict) -> EventDict:
    # Records of libraries have no code, as their texts are not listed.
    if isinstance(logged := event.get("event"), LogEvent):
        event["code"] = logged.code
    return event


class _Named:
    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        event["service"] = self._service
        return event


def _add_trace(_logger: Any, _method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid and "trace_id" not in event:
        event["trace_id"] = format(context.trace_id, "032x")
    return event
