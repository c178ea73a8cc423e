"""The metrics of the log sink."""

from __future__ import annotations

from typing import Final

from chassis.observability.metric import MetricList

_TOPIC: Final = {"topic": "the name of a topic"}

METRICS: Final = MetricList("log sink")

STORED = METRICS.counter(
    "segue_sink_events_total",
    "Events stored.",
    _TOPIC,
    unit="events",
    watch="A rate of 0 while jobs come in.",
)
REPEATED = METRICS.counter(
    "segue_sink_repeated_total",
    "Events that were stored already.",
    _TOPIC,
    unit="events",
    watch="Nothing: repeats follow each restart.",
)
QUARANTINED = METRICS.counter(
    "segue_sink_quarantined_total",
    "Messages that PostgreSQL refused; they are kept in the table `quarantine`.",
    _TOPIC,
    unit="messages",
    watch="Any increase.",
)
QUARANTINE_ROWS = METRICS.gauge(
    "segue_sink_quarantine_rows",
    "Messages in the table `quarantine`, read every 15 s.",
    unit="rows",
    watch="Not 0: events are missing in the log. The column `error` says why.",
)
MISSED = METRICS.counter(
    "segue_sink_missed_total",
    "Offsets that were gone before they were read.",
    _TOPIC,
    unit="offsets",
    watch="Any increase: events are missing in the log, and the retention of the topic is too short.",
)
EXPIRED_BYTES = METRICS.counter(
    "segue_artifacts_expired_bytes_total",
    "Bytes of the files that have expired.",
    unit="bytes",
    watch="No increase for a day while the artifact store grows.",
)
NOT_DELETED = METRICS.counter(
    "segue_artifacts_not_deleted_total",
    "Files that have expired and could not be deleted.",
    unit="files",
    watch="Any increase: `artifact_not_deleted` in the log says why.",
)
