"""The log events of the orchestrator, and their fields."""

from __future__ import annotations

from typing import Final

from chassis.observability.log_event import LogEvent

FIELDS: Final = {
    "music_provider": "The provider that is tried first (`MUSIC_PROVIDER`).",
    "routing": "The file of routing policies, if there is one.",
    "silent_s": "Seconds since the adapter was last heard of; null: never.",
    "status": "The state of the job.",
}
"""What each field of a log record means, beyond those of the chassis."""


class OrchestratorEvent(LogEvent):
    """The orchestrator. Events of jobs are logged after the message that reports them is committed."""

    ORCHESTRATOR_STARTED = (
        "orchestrator started",
        "info",
        "music_provider providers models routing broker database schema topics",
    )
    JOB_ACCEPTED = ("job accepted", "info", "job_id track_id status")
    JOB_STARTED = ("job started", "info", "job_id track_id status")
    JOB_REROUTED = ("job rerouted", "info", "job_id track_id provider kind message")
    JOB_SUCCEEDED = ("job succeeded", "info", "job_id track_id status")
    JOB_FAILED = ("job failed", "info", "job_id track_id kind message")
    JOB_CANCELLED = ("job cancelled", "info", "job_id track_id status")
    ADAPTER_SILENT = (
        "an adapter is not heard of; no job is sent to its provider",
        "warning",
        "provider silent_s",
        "Start the provider's adapter, or leave the provider out of `SEGUE_PROVIDERS`.",
    )
    ADAPTER_HEARD = ("an adapter is heard of", "info", "provider")
    ADAPTERS_NOT_READ = (
        "when the adapters were last heard of cannot be read; none counts as silent",
        "warning",
        "error",
        "Nothing if it is rare: it is read again at once. If it persists, check PostgreSQL and the role's rights.",
    )
    REQUEST_EXPIRED = (
        "requests are older than all jobs that are kept; they are ignored",
        "warning",
        "count job_id",
        "Nothing if a topic was read from its start: what they asked for is over, and its rows are deleted.",
    )
    IDEMPOTENCY_CONFLICT = (
        "the same idempotency key came with another body; the first one stands",
        "warning",
        "count job_id",
        "Nothing: the client used one key for two requests at the same moment.",
    )
    JOB_POSTPONED = (
        "no decision can be made about a job; it is postponed",
        "error",
        "job_id",
        "Report the traceback: it is a fault of Segue. It is tried again every minute.",
    )
