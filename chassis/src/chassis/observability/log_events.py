"""The log events of the chassis, which every service can log, and the fields that several members write."""

from __future__ import annotations

from typing import Final

from chassis.observability.log_event import NOTHING, LogEvent

_DEPENDENCY: Final = "Nothing if it is rare: it is retried. If it persists, check PostgreSQL or Kafka."
_WAITS: Final = "Nothing if it ends within five minutes. Otherwise, end the session that `error` names."
_DATABASE: Final = "Nothing if it is rare: it is retried. If it persists, check PostgreSQL."
_KAFKA: Final = "Nothing if it is rare: it is retried. If it persists, check Kafka."
_BUG: Final = "Report the traceback: it is a fault of Segue."

FIELDS: Final = {
    "artifacts": "The URL of the artifact store.",
    "attempt": "The number of the attempt within its job, from 1.",
    "attempt_id": "The id of the attempt: `{job_id}.{n}`.",
    "broker": "`KAFKA_BOOTSTRAP_SERVERS`.",
    "callbacks": "The base URL for callbacks (`SEGUE_PUBLIC_URL`), or `off`.",
    "connections": "The limit of open connections that is in effect.",
    "coordinator": "The broker that keeps the offsets of the group, by its number; null if the client knows none.",
    "count": "How many there are of what the event reports.",
    "database": "The name of the database.",
    "deleted": "The number of deleted rows or files by kind.",
    "drain_s": "`SEGUE_DRAIN_S`: seconds within which work has to end after the signal to stop.",
    "error": "The exception: its type, and its text unless that may contain a secret.",
    "exception": "The traceback, without the values of settings that are secret.",
    "first_error": "The text of the first error.",
    "first_offset": "The offset of the first message.",
    "first_partition": "The partition of the first message.",
    "group": "The consumer group.",
    "host": "The name of the host.",
    "http_status": "The status code of a response: the provider's, and in `request_served` that of the API.",
    "ids": "The ids of the rows.",
    "job_id": "The id of the job; where there are several, that of the first.",
    "kind": "The kind of failure (`contracts/failures.py`); in dead letters the type of the error.",
    "last_error": "The type of the error that the handler raised last.",
    "latest_peer": "The address of the latest client; empty where none is known.",
    "loop": "The loop over due rows.",
    "message": "The message of the failure, from the provider or from Segue.",
    "migration": "The name of the migration.",
    "migrations": "The names of migrations.",
    "models": "The number of models in the catalogue.",
    "next_size": "The new limit of messages in a batch.",
    "note": "The setting, and the part of it that is ignored.",
    "partition": "The partition.",
    "pause_s": "Seconds until the next probe.",
    "port": "The port that is listened on.",
    "provider": "The name of the provider.",
    "providers": "The providers that are enabled (`SEGUE_PROVIDERS`).",
    "reason": "The reason, as text or as a kind.",
    "records": "The number of messages in the batch.",
    "rows": "The number of rows.",
    "schema": "The PostgreSQL schema; at the start of the service also its latest migration.",
    "slow": "The size of the batch, and what ran into the time limit.",
    "state": "The state of the attempt.",
    "task": "The retention task or background task.",
    "topic": "The topic.",
    "topics": "The topics that are consumed, or that the event is about.",
    "track_id": "The id of the track.",
    "wait_s": "Seconds until the next try.",
    "waiting": "The tasks that have not ended, each with the line at which it waits.",
    "wanted": "The limit of open connections in the settings.",
}
"""What each field of a log record means."""


class RuntimeEvent(LogEvent):
    """The life of a process."""

    SETTING_IGNORED = (
        "a setting, or part of one, is ignored",
        "warning",
        "note",
        "Correct the setting that `note` names.",
    )
    READY = ("ready", "info", "")
    STOPPING = ("stopping", "info", "drain_s")
    STOPPED = ("stopped", "info", "")
    STOPPED_WHILE_STARTING = ("stopped while starting", "info", "")
    STOPPED_UNHEALTHY = (
        "stopped as unhealthy",
        "error",
        "reason",
        "Nothing more than for `component_failed`: the exit code requests a restart from the supervisor.",
    )
    COMPONENT_FAILED = (
        "a component failed; the process exits and is restarted",
        "critical",
        "reason",
        "Check that the supervisor restarts the process. If it repeats, look at the errors before it.",
    )
    BACKGROUND_TASK_FAILED = (
        "a background task failed",
        "error",
        "task",
        _BUG + " The process stops as unhealthy, and is restarted.",
    )
    DRAIN_TIMED_OUT = (
        "did not drain in time; the process exits at once",
        "error",
        "drain_s waiting",
        "Nothing is lost. If it repeats while PostgreSQL and Kafka are available, raise `SEGUE_DRAIN_S`.",
    )
    UNEXPECTED_ERROR = (
        "the process ends with an unexpected error",
        "critical",
        "error",
        "Report it, with the traceback: `LOG_LEVEL=DEBUG` logs that.",
    )
    TRACEBACK = ("traceback", "debug", "exception", "Read it together with the line on stderr that ended the process.")


class HttpEvent(LogEvent):
    """The HTTP listeners: the API, and the health pages of every service."""

    HTTP_SERVING = ("serving http", "info", "host port connections")
    CONNECTIONS_LIMITED = (
        "fewer connections than configured: the limit of open files is too low",
        "warning",
        "connections wanted",
        "Raise the limit of open files of the process (`ulimit -n`, `LimitNOFILE`), or lower `SEGUE_MAX_CONNECTIONS`.",
    )
    CLIENTS_TURNED_AWAY = (
        "clients were turned away",
        "warning",
        "reason count latest_peer",
        "See docs/exposure.md; `reason` is the label of `segue_http_turned_away_total`. Block an abusive address.",
    )
    ACCEPT_FAILED = (
        "connections cannot be accepted: out of file descriptors or memory",
        "warning",
        "reason count latest_peer",
        "Raise the limit of open files or the memory of the process, or lower `SEGUE_MAX_CONNECTIONS`.",
    )


class PostgresEvent(LogEvent):
    """The connection pool, migrations and retention."""

    POOLER_DETECTED = ("a connection pooler is in use; statements are not prepared", "info", "schema")
    MIGRATION_APPLIED = ("migration applied", "info", "schema migration")
    MIGRATION_WAITS = ("a migration waits for a table", "warning", "schema migration error", _WAITS)
    SCHEMA_IS_NEWER = (
        "the schema has migrations of a newer release; this one works with them",
        "warning",
        "schema migrations",
        "Nothing after a rollback or during an update. Otherwise, update this service.",
    )
    DUE_ROWS_POSTPONED = ("due rows wait for the database", "warning", "loop error", _DATABASE)
    GAUGES_NOT_READ = ("the gauges that are read from the database are not up to date", "warning", "error", _DATABASE)
    RETENTION_POSTPONED = ("retention waits for the database", "warning", "error", _DATABASE)
    RETENTION_TASK_POSTPONED = ("a retention task waits for the database", "warning", "task error", _DATABASE)
    RETENTION_DELETED = ("expired data deleted", "info", "deleted")
    RETENTION_TASK_FAILED = ("a retention task failed", "error", "task", _BUG + " The task is run again in an hour.")


class KafkaEvent(LogEvent):
    """Topics, consumer groups and the outbox."""

    CONSUMER_STOP_FAILED = ("a consumer did not stop cleanly", "warning", "error")
    GROUP_OFFSETS_UNKNOWN = (
        "the committed offsets of a group could not be read",
        "warning",
        "topic group error",
        "Nothing if it is rare: ambiguous attempts are resolved later. If it persists, check Kafka.",
    )
    CONNECTION_CLOSE_FAILED = ("a connection to Kafka was not closed cleanly", "debug", "topic group error")
    TOPICS_NOT_DESCRIBED = ("the topics could not be described", "debug", "group error", _KAFKA)
    GROUP_NOT_DESCRIBED = ("the consumer group could not be described", "debug", "group error", _KAFKA)
    TOPIC_UNAVAILABLE = (
        "a topic is unavailable",
        "error",
        "group topic reason",
        "Do what `reason` says: create the topic, add partitions, or start replicas that consume it.",
    )
    ACCESS_DENIED = (
        "Kafka refuses this client, or denies it a topic or its group",
        "error",
        "group reason",
        "Do what `reason` says: correct the login or the certificate, or grant what `segue topics --acls` prints.",
    )
    REFUSED_AT_START = (
        "Kafka refuses the login, or denies a topic; the start goes on for a minute",
        "warning",
        "reason",
        "Nothing if the brokers are just starting. Otherwise do what `reason` says: the service ends within a minute.",
    )
    PUBLISHING_DENIED = (
        "Kafka denies this service a topic that it publishes to",
        "error",
        "reason",
        "Grant what `segue topics --acls` prints. Rows of the outbox wait until then; the gateway answers 503.",
    )
    TOPIC_AVAILABLE = ("a topic is available again", "info", "group topic")
    OUTBOX_PUBLISH_FAILED = ("publishing outbox rows failed; the relay publishes them", "warning", "rows error", _KAFKA)
    OUTBOX_ROWS_REJECTED = (
        "outbox rows are too large for Kafka; they stay unpublished",
        "critical",
        "ids",
        "Report it. Once the topic's `max.message.bytes` is higher, set `created_at` of these rows to `now()`.",
    )
    OUTBOX_RELAY_POSTPONED = ("the outbox relay waits for the database", "warning", "error", _DATABASE)
    OUTBOX_RELAY_FAILED = ("the outbox relay could not publish; it tries again", "warning", "error", _KAFKA)
    OUTBOX_RELAY_INCOMPLETE = (
        "the outbox relay could not publish all rows; it tries again",
        "warning",
        "error",
        _KAFKA,
    )
    OUTBOX_RELAYED = ("the outbox relay published rows that were left behind", "info", "rows")
    OUTBOX_NOT_DRAINED = ("outbox rows are left for the relay after the next start", "warning", "rows", NOTHING)


class DeliveryEvent(LogEvent):
    """Consuming: from a batch to a committed offset, or to the dead letters; and the tail."""

    DEPENDENCY_UNAVAILABLE = (
        "the database or Kafka is unavailable; the batch is held",
        "warning",
        "group wait_s error",
        _DEPENDENCY,
    )
    BATCH_RETRIED = (
        "the database or Kafka is unavailable; the batch is polled again",
        "warning",
        "group error records",
        _DEPENDENCY,
    )
    DELIVERY_FAILED = ("a batch failed outside its handler; it is polled again", "error", "group", _BUG)
    BATCH_SIZE_REDUCED = (
        "handling a batch took too long; the batch size is reduced",
        "warning",
        "group slow next_size",
        "If it repeats, look for what slows PostgreSQL down.",
    )
    MESSAGE_FAILED = (
        "a message could not be handled",
        "error",
        "group job_id",
        "Report the traceback. The message goes to the dead letters: `segue dlq replay` once the fault is corrected.",
    )
    QUARANTINE_FAILED = (
        "a message could not be quarantined; it goes to the dead letters",
        "error",
        "group job_id",
        _BUG,
    )
    DEAD_LETTERED = (
        "put into dead letters",
        "warning",
        "group topic kind count first_partition first_offset first_error",
        "Look at them with `segue dlq`; `segue dlq replay` publishes them again once the cause of `kind` is corrected.",
    )
    CONSUMING_PAUSED = (
        "the handler failed on most of the last messages; consuming pauses",
        "critical",
        "group pause_s last_error",
        "Find the cause of `last_error`; nothing is lost. Consuming resumes when a probe message is handled.",
    )
    PROBE_FAILED = (
        "the handler failed on the probe message; consuming pauses again",
        "critical",
        "group pause_s last_error",
        "As for `consuming_paused`.",
    )
    CONSUMING_RESUMED = ("the handler succeeded on the probe message; consuming resumes", "info", "group")
    OFFSETS_NOT_CHECKED = (
        "committed offsets could not be checked; consuming waits until they are",
        "warning",
        "group error",
        _KAFKA,
    )
    OFFSETS_NOT_COMMITTED = (
        "offsets were not committed; they are later, or the messages are read again",
        "warning",
        "error coordinator",
        "Nothing if it is rare. If it lasts for minutes while Kafka is well, restart the service: no harm is done.",
    )
    TOPICS_RECREATED = (
        "topics were deleted and created again; they are read from their start",
        "warning",
        "topics",
        "Nothing if that was intended. Messages of the deleted topics that were not yet read are lost.",
    )
    END_OFFSETS_UNKNOWN = ("the end offsets of partitions could not be read", "debug", "group error", _KAFKA)
    TAIL_DISCONNECTED = (
        "the tail lost its connection to Kafka; it resumes where it was",
        "warning",
        "topics error",
        _KAFKA,
    )
    TAIL_MESSAGES_FAILED = (
        "messages could not be applied by the tail; they are skipped",
        "error",
        "topics count topic partition first_offset",
        "Report the traceback. What the gateway answers follows once the log sink has stored these messages.",
    )
    TAIL_CAUGHT_UP = ("the tail has caught up", "info", "topics")
