"""Structured logs on stdout, one record per line, with the ids of the job, the attempt and the trace.

A record is a JSON object, or text for people.
"""

from __future__ import annotations

import logging
import sys
from contextlib import nullcontext, suppress
from typing import Any, TextIO

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor

from chassis.observability.log_event import LogEvent, Logger
from chassis.observability.log_limits import OutsideWarnings
from chassis.settings.types import LogFormat
from contracts.text import escaped, escaped_line


def configure_logs(service: str, level: str, form: LogFormat = "json") -> None:
    """Write the logs of this process, including those of libraries, to stdout."""
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
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _untraced,
                structlog.processors.format_exc_info,
                *_renderers(form),
            ],
        )
    )
    handler.addFilter(OutsideWarnings())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These log every request or heartbeat; Segue logs the relevant events itself.
    for noisy in ("httpx", "httpcore", "uvicorn", "aiokafka"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # It warns at every start that topics are not created automatically, which is intended.
    logging.getLogger("chassis.faststream").setLevel(logging.ERROR)


def get_logger(name: str) -> Logger:
    """A logger for one module."""
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger


def get_line_logger(name: str) -> Logger:
    """A logger for what is logged of every request. Its records are those of any logger, at a third of the cost.

    A record is rendered at once and written past the standard library, so nothing limits how many warnings there are.
    The level is not looked at; ask `logging.getLogger(name).isEnabledFor` before. Call it after `configure_logs`.
    """
    for handler in logging.getLogger().handlers:
        form = handler.formatter
        if isinstance(handler, logging.StreamHandler) and isinstance(form, structlog.stdlib.ProcessorFormatter):
            # Without what hands a record over to the formatter, and what the formatter removes of that.
            processors = [*structlog.get_config()["processors"][:-1], *form.processors[1:]]
            lines: Logger = structlog.wrap_logger(
                _Lines(name, handler), processors=processors, wrapper_class=structlog.stdlib.BoundLogger
            ).bind()
            return lines
    return get_logger(name).bind()


class _Lines:
    """Writes rendered records to the stream of a handler."""

    def __init__(self, name: str, handler: logging.StreamHandler[TextIO]) -> None:
        self.name = name
        self._handler = handler

    def info(self, line: str) -> None:
        """Write one line. A stream that is closed, or that nobody reads any more, fails no request."""
        with self._handler.lock or nullcontext(), suppress(OSError, ValueError):
            self._handler.stream.write(line + "\n")
            self._handler.stream.flush()


def _renderers(form: LogFormat) -> list[Processor]:
    """What makes text of a record, as JSON or for people."""
    terminal = sys.stdout.isatty()
    if form == "json" or (form == "auto" and not terminal):
        return [structlog.processors.JSONRenderer(), _printable]
    # What follows the renderer would escape its colours as well.
    return [_in_words, structlog.dev.ConsoleRenderer(colors=terminal, pad_event_to=0, pad_level=True)]


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


def _printable(_logger: Any, _method: str, line: Any) -> str:
    """Escape DEL, the only control character that JSON leaves unescaped."""
    return escaped(str(line))


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
