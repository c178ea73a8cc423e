"""The metrics of the gateway."""

from __future__ import annotations

from typing import Final

from chassis.observability.metric import MetricList

METRICS: Final = MetricList("gateway")
_REQUEST: Final = {
    "method": "the method, or `other`",
    "route": "the template of the path, such as `/api/tracks/{track_id}`, or `other` where no route fits",
}

CALLBACKS = METRICS.counter(
    "segue_callbacks_total",
    "Callbacks received from providers.",
    {
        "provider": "a provider, or `other` for an address that names none",
        "outcome": "`taken`, `wrong-address`, or the `type` of the problem that was answered, such as `bad-signature`",
    },
    unit="callbacks",
    watch="`bad-signature` and `signing-keys-away` in place of `taken`: see `callback_rejected` in the log.",
)
HTTP_REQUESTS = METRICS.counter(
    "segue_http_requests_total",
    "Requests to the API that ended; those for the health pages, and those that the listener refuses, do not count.",
    {**_REQUEST, "status": "the status of the response; 499 if there was none, as the client had gone"},
    unit="requests",
    watch="The share of 5xx: 503 says that Kafka or the database is away. A 500 is a fault of Segue.",
)
HTTP_REQUEST_SECONDS = METRICS.histogram(
    "segue_http_request_seconds",
    "Time from a request's headers to the end of its response. Exemplars have the `trace_id`.",
    _REQUEST,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
    watch="Growth: Kafka or the database slows down. `Prefer: wait` is part of it: such a request waits for its job.",
)
CLOCK_DIFFERENCE = METRICS.gauge(
    "segue_clock_difference_seconds",
    "How far this process's clock is ahead of another; negative where it is behind.",
    {"reference": "`database` or `kafka`"},
    unit="seconds",
    watch="More than a second: synchronize the clocks (NTP).",
)
