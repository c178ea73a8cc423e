"""The log events of the log sink, and their fields."""

from __future__ import annotations

from typing import Final

from chassis.observability.log_event import LogEvent

FIELDS: Final = {
    "bytes": "The bytes of the deleted files.",
    "failed": "The number of files that could not be deleted.",
    "files": "The number of deleted files.",
    "first_missing": "The offset of the first missing record.",
    "keep_artifacts_days": "Days for which files are kept, or `for ever`.",
    "keep_rows_days": "Days for which rows are kept.",
    "key": "The key of the file in the artifact store.",
    "names": "The names of the new partitions.",
    "next_read": "The offset of the first record that was there.",
    "schema_version": "The latest migration of the service.",
}
"""What each field of a log record means, beyond those of the chassis."""


class LogSinkEvent(LogEvent):
    """The log sink: the projection, and retention of events and files."""

    LOG_SINK_STARTED = (
        "log sink started",
        "info",
        "broker database schema_version topics keep_rows_days keep_artifacts_days",
    )
    MESSAGES_QUARANTINED = (
        "messages quarantined",
        "warning",
        "count topic first_partition first_offset error",
        "Look at the table `quarantine`; report it if the messages are Segue's own.",
    )
    RECORDS_MISSED = (
        "records were deleted from a topic before they were read",
        "warning",
        "topic partition first_missing next_read",
        "Find out how long the log sink was down; raise the topic's retention. These events are lost to the log.",
    )
    PARTITIONS_POSTPONED = (
        "creating partitions waits for the database",
        "warning",
        "error",
        "Nothing if it is rare: it is retried. If it persists, check PostgreSQL.",
    )
    PARTITIONS_CREATED = ("partitions created", "info", "names")
    ARTIFACTS_EXPIRED = ("artifacts expired", "info", "files bytes failed")
    ARTIFACT_NOT_DELETED = (
        "a file could not be deleted",
        "warning",
        "key error",
        "Check the artifact store and its permissions; the next run of retention tries again.",
    )
