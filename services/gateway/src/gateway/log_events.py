"""The log events of the gateway, and their fields."""

from __future__ import annotations

from typing import Final

from chassis.observability.log_event import LogEvent

FIELDS: Final = {
    "accept_by": "The time up to which the request could be accepted.",
    "arrived_at": "The time at which Kafka's broker appended the request.",
    "client": "The address of the client; behind a trusted proxy the one that it names.",
    "artifact_store": "The URL of the artifact store, without its parameters.",
    "default_provider": "The provider that is tried first (`MUSIC_PROVIDER`).",
    "delivery_id": "The provider's id of the callback.",
    "detail": "The `detail` of the response to the callback.",
    "duration_ms": "Milliseconds from the headers of the request to the end of the response.",
    "method": "The method of the request.",
    "name": "The name of the file.",
    "path": "The path of the request, without its query and the secret part of a callback's address.",
    "response_bytes": "The size of the response's body.",
    "route": "The template of the path, or `other` where no route fits.",
}
"""The meaning of each field of a log record, in addition to those of the chassis."""


class GatewayEvent(LogEvent):
    """The gateway: the API, and the intake of requests and callbacks."""

    GATEWAY_STARTING = (
        "gateway starting",
        "info",
        "default_provider providers broker database artifact_store models callbacks",
    )
    REQUEST_SERVED = (
        "request served",
        "info",
        "method route path http_status duration_ms response_bytes client job_id",
        "Nothing: it is the access log, which `SEGUE_ACCESS_LOG=off` switches off.",
    )
    REQUEST_FAILED = (
        "a request failed with an unexpected error",
        "error",
        "path",
        "Report the traceback: the client was answered with 500.",
    )
    REQUEST_TOO_LATE = (
        "Kafka received a request after its acceptance deadline",
        "warning",
        "job_id arrived_at accept_by",
        "Nothing if it is rare: the client was told to repeat it. If it persists, check Kafka.",
    )
    PUBLISH_UNCONFIRMED = (
        "Kafka did not confirm a message in time",
        "warning",
        "job_id error",
        "Check Kafka. The client was answered with 503 and can repeat its request with the same key.",
    )
    IDEMPOTENCY_STORE_UNAVAILABLE = (
        "a request is accepted without the database",
        "warning",
        "job_id error",
        "Check PostgreSQL. The job is safe: its id is derived from the key.",
    )
    CALLBACK_ACCEPTED = ("callback accepted", "info", "provider attempt_id job_id delivery_id")
    CALLBACK_REJECTED = (
        "callback rejected",
        "warning",
        "provider attempt_id reason detail",
        "Nothing for a single one: anybody can send it. Many: check the signing keys, the settings and the clock.",
    )
    SIGNING_KEYS_NOT_FETCHED = (
        "signing keys could not be fetched",
        "warning",
        "error",
        "Check that the provider can be reached and accepts our key. The provider repeats its callbacks.",
    )
    CALLBACKS_UNVERIFIABLE = (
        "callbacks cannot be verified, and are refused: there is neither a signing secret nor an API token",
        "warning",
        "provider",
        "Set the provider's signing secret or its API token ([settings](settings.md)). Until then runs are polled.",
    )
    ARTIFACT_MISSING = (
        "a file is missing in the artifact store",
        "error",
        "job_id name",
        "Find out who deleted it: Segue's own retention marks what it deletes.",
    )
    ARTIFACT_STORE_UNAVAILABLE = (
        "the artifact store is unavailable",
        "warning",
        "job_id error",
        "Check the artifact store.",
    )
    CLOCK_DIFFERS = (
        "this machine's clock differs from another",
        "warning",
        "reason",
        "Synchronize the clocks (NTP). Segue goes by the clocks of the database and of Kafka meanwhile.",
    )
    CLOCK_AGREES = ("this machine's clock agrees with the others again", "info", "")
    DATABASE_CLOCK_UNKNOWN = (
        "the time of the database could not be read",
        "warning",
        "error",
        "Nothing if it is rare. If it persists, check PostgreSQL.",
    )
