"""The names of everything the chassis counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

MESSAGES_HANDLED = Counter("segue_messages_handled_total", "Messages handled and committed.", ["topic"])
MESSAGES_SKIPPED = Counter("segue_messages_skipped_total", "Messages of a type this version does not know.", ["topic"])
DEAD_LETTERED = Counter("segue_dead_letters_total", "Messages put into the dead letters.", ["topic"])
DLQ_LIMIT_EXCEEDED = Gauge(
    "segue_dlq_limit_exceeded", "1 while consuming pauses because the handler fails on most messages.", ["group"]
)
BATCH_SECONDS = Histogram(
    "segue_batch_seconds", "Time to handle one batch, commit included.", ["group"], buckets=SECONDS
)
BATCH_RETRIES = Counter(
    "segue_batch_retries_total", "Batches tried again because the database or Kafka was away.", ["group"]
)
OUTBOX_PUBLISHED = Counter("segue_outbox_published_total", "Outbox rows published.")
RETENTION_DELETED = Counter(
    "segue_housekeeping_deleted_total", "Things deleted because they were old enough.", ["what"]
)
CONSUMER_LAG = Gauge("segue_consumer_lag_messages", "Messages not yet read, by partition.", ["topic", "partition"])
TOPIC_UNAVAILABLE = Gauge(
    "segue_topic_unavailable",
    "1 while a topic is missing, has too few partitions, or has partitions that no replica consumes.",
    ["topic"],
)
TAIL_READ = Counter("segue_tail_messages_total", "Messages read by the tail.", ["topic"])
TAIL_UNREADABLE = Counter("segue_tail_unreadable_total", "Messages the tail could not read.", ["topic"])
HTTP_CONNECTIONS = Gauge("segue_http_connections", "Open connections of this process's listeners.")
HTTP_TURNED_AWAY = Counter(
    "segue_http_turned_away_total", "Connections and requests that a listener refused or ended itself.", ["reason"]
)
