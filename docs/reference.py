"""`python docs/reference.py` writes docs/logs.md and docs/metrics.md from the code; `--check` fails on drift."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from inspect import getdoc
from pathlib import Path
from typing import Final

import adapter_kit.log_events
import adapter_kit.metrics
import chassis.observability.log_events
import chassis.observability.metrics
import gateway.log_events
import gateway.metrics
import log_sink.log_events
import log_sink.metrics
import orchestrator.log_events
import orchestrator.metrics
from chassis.observability.log_event import LogEvent
from chassis.observability.metric import Metric, MetricList
from log_sink.log_events import LogSinkEvent
from orchestrator.log_events import OrchestratorEvent

DOCS: Final = Path(__file__).resolve().parent

LOGS: Final = """# Log events

Each service writes its log to stdout, one JSON object a line, or, if stdout is a terminal, one line of text for
people; `LOG_FORMAT` can be set to `json` or `console`. In the text, the time, the level, the event and the logger
come first, and the other fields follow as `name=value`; it is coloured on a terminal only. Line breaks in a field are
semicolons, and the field `exception` has the name `traceback`. In both forms, characters that control a terminal are
written as JSON escapes. A record is written within 5 ms, an error at once; a process that is killed, or that
hangs until it is, may lose those of the last 5 ms before it.

This page lists every event that the code of Segue logs; `python docs/reference.py` makes it from the lists in the
code. The record of an event has its text in `event`, and in `code` a name of it that does not change. Records of
libraries (uvicorn, aiokafka, asyncio, OpenTelemetry and others) have texts of their own, and no `code`. "Nothing"
says that no action is needed.

## Fields of every record

| field | meaning |
|---|---|
| `event` | The text. |
| `code` | The code of the event; absent from records of libraries. |
| `level` | `debug`, `info`, `warning`, `error` or `critical`; `LOG_LEVEL` sets the lowest that is written. |
| `logger` | The module that logs, or the name of the library's logger. |
| `service` | The service. |
| `timestamp` | ISO 8601, in UTC. |
| `trace_id` | The trace of the job, where there is one; in `request_served` that of the request. |
| `exception` | The traceback, where an exception is reported with one. |
| `suppressed` | How many like it were withheld: of what clients can cause, one a minute is written. |

Records of an adapter that is working on an attempt also have `job_id`, `track_id`, `attempt` and `provider`.
"""

SECTIONS: Final[Sequence[tuple[str, Sequence[type[LogEvent]]]]] = (
    (
        "Every service",
        (
            chassis.observability.log_events.RuntimeEvent,
            chassis.observability.log_events.HttpEvent,
            chassis.observability.log_events.PostgresEvent,
            chassis.observability.log_events.KafkaEvent,
            chassis.observability.log_events.DeliveryEvent,
        ),
    ),
    ("Gateway", (gateway.log_events.GatewayEvent,)),
    ("Orchestrator", (OrchestratorEvent,)),
    (
        "Adapters",
        (
            adapter_kit.log_events.AttemptEvent,
            adapter_kit.log_events.CallbackEvent,
            adapter_kit.log_events.LedgerEvent,
            adapter_kit.log_events.OutputEvent,
        ),
    ),
    ("Log sink", (LogSinkEvent,)),
)

FIELDS: Final[Mapping[str, str]] = {
    **chassis.observability.log_events.FIELDS,
    **gateway.log_events.FIELDS,
    **orchestrator.log_events.FIELDS,
    **adapter_kit.log_events.FIELDS,
    **log_sink.log_events.FIELDS,
}


METRICS: Final = """# Metrics

Each service answers `GET /metrics` in the text format of Prometheus, or in OpenMetrics, with exemplars, where the
scraper accepts that (`Accept: application/openmetrics-text`); metrics of Python and of the process are there too
(`python_…`, `process_…`). This page lists every metric of Segue; `python docs/reference.py` makes it from the registry
in the code. Counters begin at 0 with each start of a process, so watch their rate or increase. A histogram has the
series `_bucket`, `_sum` and `_count`.

What is "read every 15 s" is counted in the service's tables, which all of its replicas share: each of them shows the
same value, so take `max`, not `sum`. It stays as it was while the database cannot be read. Exemplars name the trace of
one observation, where traces are exported and that one is sampled.
"""

METRIC_LISTS: Final[Sequence[tuple[str, MetricList]]] = (
    ("Every service", chassis.observability.metrics.METRICS),
    ("Gateway", gateway.metrics.METRICS),
    ("Orchestrator", orchestrator.metrics.METRICS),
    ("Adapters", adapter_kit.metrics.METRICS),
    ("Log sink", log_sink.metrics.METRICS),
)


def logs_document() -> str:
    """The text of docs/logs.md."""
    return "\n".join([LOGS, *_event_sections(), *_field_section()])


def metrics_document() -> str:
    """The text of docs/metrics.md."""
    return "\n".join([METRICS, *_metric_sections()])


def _event_sections() -> Iterator[str]:
    for title, kinds in SECTIONS:
        yield f"## {title}\n"
        for kind in kinds:
            yield f"{getdoc(kind)}\n"
            yield from _table(
                ("code", "level", "text", "fields", "what to do"),
                [(f"`{e.code}`", e.level, e.value, _codes(e.fields), e.action) for e in kind],
            )


def _metric_sections() -> Iterator[str]:
    for title, listed in METRIC_LISTS:
        yield f"## {title}\n"
        yield from _table(
            ("metric", "type", "unit", "labels", "of", "meaning", "what to watch"),
            [(f"`{m.name}`", m.type, m.unit, _labels(m), m.services, m.meaning, m.watch) for m in listed.defined],
        )


def _field_section() -> Iterator[str]:
    yield "## Fields of events\n"
    yield from _table(("field", "meaning"), [(f"`{name}`", FIELDS[name]) for name in sorted(FIELDS)])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    yield ""


def _labels(metric: Metric) -> str:
    return "<br>".join(f"`{name}`: {values}" for name, values in metric.labels.items())


def _codes(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


DOCUMENTS: Final = {"logs.md": logs_document, "metrics.md": metrics_document}


def stale() -> list[str]:
    """The names of the documents that differ from what would be written."""
    return [
        name
        for name, written in DOCUMENTS.items()
        if not (DOCS / name).is_file() or (DOCS / name).read_text(encoding="utf-8") != written()
    ]


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a document is stale")
    check, names = parser.parse_args().check, stale()
    for name in names:
        if not check:
            (DOCS / name).write_text(DOCUMENTS[name](), encoding="utf-8")
        sys.stdout.write(f"{'stale' if check else 'written'}: docs/{name}\n")
    return 1 if names and check else 0


if __name__ == "__main__":
    sys.exit(main())
