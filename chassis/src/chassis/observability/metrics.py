"""The metrics of the chassis."""

from __future__ import annotations

from typing import Final

from chassis.observability.metric import MetricList

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TOPIC: Final = {"topic": "the name of a topic"}
_GROUP: Final = {"group": "the consumer group, which is the name of the service"}
_CONSUMERS: Final = "orchestrator, adapters, log sink"

METRICS: Final = MetricList("all services")

BUILD_INFO = METRICS.gauge(
    "segue_build_info",
    "The release that runs; always 1.",
    {"service": "the name of the service", "version": "the version of Segue"},
    unit="1",
    watch="More than one `version` other than during an update.",
)
DEPENDENCY_UP = METRICS.gauge(
    "segue_dependency_up",
    "0 while the last use of a dependency failed; 1 otherwise, also before its first use.",
    {"dependency": "its name in `/readyz`: `database`, `kafka`, `artifact_store`, or `outbox` for what publishes it"},
    unit="0 or 1",
    watch="0 for more than a minute: `/readyz` has the reason.",
)
MESSAGES_HANDLED = METRICS.counter(
    "segue_messages_handled_total",
    "Messages handled and committed.",
    _TOPIC,
    unit="messages",
    watch="A rate of 0 while `segue_consumer_lag_messages` is not 0: nothing is handled.",
    services=_CONSUMERS,
)
MESSAGES_SKIPPED = METRICS.counter(
    "segue_messages_skipped_total",
    "Messages of a type that is unknown to this version.",
    _TOPIC,
    unit="messages",
    watch="An increase other than during an update: a newer service sends types that this one does not support.",
    services=_CONSUMERS,
)
DEAD_LETTERED = METRICS.counter(
    "segue_dead_letters_total",
    "Messages put into the dead letters, or into the log sink's quarantine.",
    _TOPIC,
    unit="messages",
    watch="Any increase.",
    services=_CONSUMERS,
)
DLQ_LIMIT_EXCEEDED = METRICS.gauge(
    "segue_dlq_limit_exceeded",
    "1 while consuming pauses because the handler fails on most messages.",
    _GROUP,
    unit="0 or 1",
    watch="1: the service does no work.",
    services=_CONSUMERS,
)
BATCH_SECONDS = METRICS.histogram(
    "segue_batch_seconds",
    "Time to handle one batch, dead letters included. Its offsets are committed later.",
    _GROUP,
    buckets=_SECONDS,
    watch="Growth: PostgreSQL slows down; Kafka only where there are dead letters.",
    services=_CONSUMERS,
)
BATCH_RETRIES = METRICS.counter(
    "segue_batch_retries_total",
    "Batches tried again because the database or Kafka was unavailable or slow.",
    _GROUP,
    unit="batches",
    watch="A rate that persists.",
    services=_CONSUMERS,
)
OUTBOX_PUBLISHED = METRICS.counter(
    "segue_outbox_published_total",
    "Outbox rows published.",
    unit="rows",
    watch="A rate of 0 while messages are handled.",
    services="orchestrator, adapters",
)
OUTBOX_ROWS = METRICS.gauge(
    "segue_outbox_rows",
    "Rows in the service's outbox, read every 15 s: messages that are committed, and not yet published or only just.",
    unit="rows",
    watch="Growth over minutes: Kafka is away or slow. A few that stay: see `outbox_rows_rejected` in the log.",
    services="orchestrator, adapters",
)
OUTBOX_OLDEST = METRICS.gauge(
    "segue_outbox_oldest_seconds",
    "Age of the oldest row in the service's outbox that can be published, read every 15 s; 0 if there is none.",
    unit="seconds",
    watch="More than 30: messages are late, and the jobs that they are about wait.",
    services="orchestrator, adapters",
)
DUE_OLDEST = METRICS.gauge(
    "segue_due_oldest_seconds",
    "For how long the job or attempt has been due that is due longest, read every 15 s; 0 if none is due.",
    unit="seconds",
    watch="More than 30: the service does not get to what is due.",
    services="orchestrator, adapters",
)
RETENTION_DELETED = METRICS.counter(
    "segue_housekeeping_deleted_total",
    "Rows, partitions and files deleted because their retention was over.",
    {"what": "`attempts`, `idempotency_keys`, `jobs`, `events`, `months_of_events`, `quarantined` or `artifacts`"},
    unit="rows, partitions or files",
    watch="No increase for a day while the tables grow.",
)
CONSUMER_LAG = METRICS.gauge(
    "segue_consumer_lag_messages",
    "Messages not yet read.",
    {**_TOPIC, "partition": "the number of the partition"},
    unit="messages",
    watch="Growth over minutes: add replicas, or find the cause of the slowness.",
    services=_CONSUMERS,
)
TOPIC_UNAVAILABLE = METRICS.gauge(
    "segue_topic_unavailable",
    "1 while a topic is missing, has too few partitions, or has partitions that no replica consumes.",
    _TOPIC,
    unit="0 or 1",
    watch="1: the log event `topic_unavailable` has the reason.",
)
TAIL_READ = METRICS.counter(
    "segue_tail_messages_total",
    "Messages read by the tail.",
    _TOPIC,
    unit="messages",
    watch="A rate of 0 while jobs come in: the gateway answers from the log sink's tables only.",
    services="gateway",
)
TAIL_LAG = METRICS.gauge(
    "segue_tail_lag_messages",
    "Messages that the tail has not read yet.",
    _TOPIC,
    unit="messages",
    watch="Growth over minutes: answers of this replica are late by that much.",
    services="gateway",
)
TAIL_UNREADABLE = METRICS.counter(
    "segue_tail_unreadable_total",
    "Messages that the tail could not read or apply.",
    _TOPIC,
    unit="messages",
    watch="Any increase.",
    services="gateway",
)
HTTP_CONNECTIONS = METRICS.gauge(
    "segue_http_connections",
    "Open connections of this process's listeners.",
    unit="connections",
    watch="A value near `SEGUE_MAX_CONNECTIONS`.",
)
HTTP_TURNED_AWAY = METRICS.counter(
    "segue_http_turned_away_total",
    "Connections and requests that a listener refused or ended itself.",
    {
        "reason": "of a request: `malformed-request`, `no-websocket`, `no-tunnel`, `body-framing`, "
        "`request-line-too-long`, `headers-too-large`, `headers-too-slow`, `body-too-slow`, `too-many-pipelined`, "
        "`too-many-requests-wait`; of a "
        "connection: `too-many-connections`, `no-place-for-one-address`, `no-place`, `no-files`, `too-many-bytes`, "
        "`answer-not-read`, `nothing-sent`"
    },
    unit="connections or requests",
    watch="`no-place`, `no-files` and `too-many-bytes`: clients give way to each other, and the limits may be too low.",
)
