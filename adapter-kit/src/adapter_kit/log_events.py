"""The log events of the adapters, and their fields."""

from __future__ import annotations

from typing import Final

from chassis.observability.log_event import NOTHING, LogEvent

_DATABASE: Final = "Nothing if it is rare: it is retried. If it persists, check PostgreSQL."
_BUG: Final = "Report the traceback: it is a fault of Segue."
_PROVIDER: Final = "Nothing if it is rare. If it persists, check the provider's status page and `segue providers`."
_FAILED_TRY: Final = "job_id track_id attempt provider reason message host tries retry_at"
_DOUBLE_BILL: Final = "Check the provider's dashboard: two runs may be billed. Stop the one that is not wanted."

FIELDS: Final = {
    "answer": "How the provider answered the cancel, as the name of an outcome.",
    "endpoint": "The provider's endpoint.",
    "error_code": "The provider's own code of the failure.",
    "known": "The provider's id of the run that the attempt has already.",
    "max_bytes": "The largest output that is stored, in bytes (`SEGUE_MAX_OUTPUT_MB`).",
    "outcomes": "The number of outcomes that wait to be written.",
    "over": "Whether the callback says that the run has ended.",
    "owner": "The attempt that has the run.",
    "provider_ref": "The provider's id of the run.",
    "raw": "The beginning of the response.",
    "ref": "The provider's id of the other run.",
    "remedy": "What lets the host be reached.",
    "retry_after_s": "Seconds for which the provider asks to wait.",
    "retry_at": "When the failed step is tried again, by PostgreSQL's clock.",
    "sdk": "The provider's SDK with its version.",
    "tries": "How many tries have failed since the last one that did not.",
    "verdict": "What the callback turned out to be: `foreign`, `unreadable` or `swapped`.",
}
"""The fields of the log records with their meanings, in addition to those of the chassis."""


class AttemptEvent(LogEvent):
    """The processing of attempts."""

    ADAPTER_STARTED = ("adapter started", "info", "sdk broker database schema artifacts callbacks topics")
    SUBMITTING = ("submitting", "info", "endpoint")
    SUBMIT_ACCEPTED = ("the provider accepted the submit", "info", "provider_ref")
    SUBMIT_REFUSED = (
        "the provider refused the submit",
        "warning",
        "message kind error_code http_status",
        "Nothing: the job moves on where its kind allows. For `insufficient_balance` top up the account.",
    )
    SUBMIT_NOT_SENT = ("the submit was not sent", "warning", "message", _PROVIDER)
    SUBMIT_THROTTLED = (
        "the provider throttled the submit",
        "warning",
        "message retry_after_s",
        "Nothing: it is sent again. If it is frequent, ask the provider for a higher rate limit.",
    )
    SUBMIT_AMBIGUOUS = (
        "it is not known whether the submit was accepted; it is never sent again",
        "warning",
        "message",
        "Nothing: the run is searched for. `segue attempts --ambiguous` shows what stays unresolved.",
    )
    SEARCH_SETTLED_NOTHING = (
        "the runs of lost submits were searched for, and nothing is proven",
        "warning",
        "provider count reason",
        _PROVIDER
        + " If the reason is a clock, synchronize that of PostgreSQL's machine. If it is another attempt with the"
        " same input, nothing: it ends with that attempt's grace period.",
    )
    SUBMIT_RAISED = ("submitting raised an exception", "error", "", _BUG + " The attempt is ambiguous.")
    CALLBACK_URL_REFUSED = (
        "the provider refused the callback URL; the attempt is submitted without one, and polled",
        "error",
        "message http_status",
        "Check `SEGUE_PUBLIC_URL`: it has to be a public https URL.",
    )
    CANCEL_SENT = ("cancel sent", "info", "reason answer")
    RUN_STATUS_UNKNOWN = ("the provider does not say how the run stands", "warning", _FAILED_TRY, _PROVIDER)
    OUTPUT_PENDING = ("the output of a run is not available yet", "warning", _FAILED_TRY, _PROVIDER)
    CANCEL_NOT_DELIVERED = ("a cancel did not reach the provider; it is sent again", "warning", _FAILED_TRY, _PROVIDER)
    RESULT_UNREADABLE = (
        "the result of a run cannot be read",
        "error",
        "reason raw",
        "Report it with `raw`. Once it is corrected, `segue attempts collect ATTEMPT` fetches the output.",
    )
    CALL_RAISED = ("a call to the provider raised an exception; it is repeated", "error", "", _BUG)
    ATTEMPT_ENDED = (
        "attempt ended",
        "info",
        "job_id track_id attempt provider state kind message error_code",
    )
    LOST_RUN_FOUND = (
        "a run was found for an attempt that had ended without one",
        "warning",
        "job_id track_id attempt provider provider_ref",
        "Check the provider's dashboard: two runs may be billed. Segue asks the provider to stop this one.",
    )
    LATE_OUTCOME = (
        "the outcome of an attempt was learned after its end",
        "warning",
        "job_id track_id attempt provider provider_ref state kind",
        "Nothing: cost and files are kept with the attempt.",
    )
    DUPLICATE_RUN_SUSPECTED = (
        "the provider has another run of this attempt",
        "error",
        "job_id attempt_id ref known",
        _DOUBLE_BILL,
    )
    ATTEMPT_RESOLVED = ("an operator resolved an attempt", "warning", "attempt_id provider_ref state")
    RESOLUTION_OF_UNKNOWN_ATTEMPT = (
        "an operator's resolution names an unknown attempt",
        "warning",
        "count attempt_id",
        "Repeat it with the right id; the rows of old attempts are deleted.",
    )
    RESOLUTION_NAMES_OTHER_RUN = (
        "an operator's resolution names the run of another attempt",
        "error",
        "job_id attempt_id ref owner",
        "Repeat it with the id of the attempt's own run.",
    )


class CallbackEvent(LogEvent):
    """Callbacks that reach the adapter."""

    CALLBACK_RECEIVED = ("callback received", "info", "attempt_id provider_ref over")
    CALLBACK_NOT_APPLIED = (
        "callback not applied",
        "warning",
        "attempt_id provider_ref over verdict",
        "`foreign`: look for a second run in the provider's dashboard. `unreadable`: report it. `swapped`: nothing.",
    )
    CALLBACKS_OF_UNKNOWN_ATTEMPTS = (
        "callbacks for unknown attempts",
        "warning",
        "count attempt_id",
        "Nothing for old attempts. Otherwise check whether another installation uses the same `SEGUE_PUBLIC_URL`.",
    )
    CALLBACKS_ARRIVE = ("callbacks arrive; runs are polled less often", "info", "provider")
    CALLBACK_MISSING = (
        "a run ended without a callback, and none came of late; runs are polled as usual",
        "warning",
        "provider",
        "Check that the provider can reach `SEGUE_PUBLIC_URL`. Nothing is lost: runs are polled.",
    )


class LedgerEvent(LogEvent):
    """The ledger, the claim loop and the breaker."""

    LEASES_NOT_RENEWED = ("leases were not renewed", "warning", "error", _DATABASE)
    OUTCOMES_POSTPONED = ("outcomes wait for the database", "warning", "outcomes error", _DATABASE)
    OUTCOME_NOT_WRITTEN = ("an outcome could not be written", "error", "attempt_id", _BUG)
    ATTEMPT_POSTPONED = (
        "an attempt could not be advanced; it is postponed",
        "error",
        "attempt_id",
        _BUG + " It is tried again.",
    )
    ATTEMPT_WORKER_FAILED = ("working on an attempt failed; it is claimed again when its lease ends", "error", "", _BUG)
    RUNS_NOT_POSTPONED = ("status requests could not be postponed", "warning", "error", _DATABASE)
    PROVIDER_HEALTH_NOT_WRITTEN = ("the provider's health could not be written", "warning", "error", _DATABASE)
    HEARTBEAT_NOT_WRITTEN = ("the heartbeat could not be written", "warning", "error", _DATABASE)


class OutputEvent(LogEvent):
    """Fetching and storing outputs."""

    OUTPUT_NOT_COLLECTED = (
        "output could not be collected",
        "error",
        "kind message",
        "Correct what `message` says; `segue attempts collect ATTEMPT` then fetches the output.",
    )
    OUTPUT_COLLECTION_RETRIED = (
        "output could not be collected yet; it is tried again",
        "warning",
        _FAILED_TRY,
        "Nothing if it is rare. For `store_failed` check the artifact store; else whether `host` can be reached.",
    )
    OUTPUT_TOO_LARGE = (
        "an output is larger than SEGUE_MAX_OUTPUT_MB allows",
        "error",
        "max_bytes",
        "Raise `SEGUE_MAX_OUTPUT_MB`; `segue attempts collect ATTEMPT` then fetches the output.",
    )
    OUTPUT_HANDLING_FAILED = ("collecting an output raised an exception", "error", "", _BUG)
    OUTPUT_HOST_REFUSED = (
        "the egress rules refuse the host of a paid output: the run is billed, its job fails until this is corrected",
        "error",
        "host reason remedy",
        "Do what `remedy` says; `segue attempts collect ATTEMPT` then fetches the output.",
    )
    OUTPUT_HOST_UNREACHABLE = (
        "no connection to the host of a paid output: the run is billed, its job fails unless this is corrected",
        "error",
        "host reason remedy",
        "Do what `remedy` says; until the deadline it is tried again.",
    )
    OUTPUT_HOST_BLOCKED = (
        "outputs cannot be fetched from a host at which the provider keeps them",
        "warning",
        "host reason remedy",
        "Do what `remedy` says, before a run is paid for.",
    )
    MEDIA_NOT_MEASURED = ("a file could not be measured; it is stored all the same", "info", "error", NOTHING)
