"""The names of everything an adapter counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

ATTEMPTS_ENDED = Counter("segue_attempts_ended_total", "Attempts that ended.", ["provider", "state", "kind"])
ATTEMPT_SECONDS = Histogram(
    "segue_attempt_seconds",
    "From the intent to POST to the end of the attempt.",
    ["provider", "state"],
    buckets=SECONDS,
)
CALL_SECONDS = Histogram(
    "segue_provider_call_seconds", "One action at the provider.", ["provider", "action"], buckets=SECONDS
)
CALLS_IN_FLIGHT = Gauge("segue_provider_calls_in_flight", "Actions at the provider under way.")
AMBIGUOUS = Counter(
    "segue_attempts_ambiguous_total", "Submits of which nobody knows whether they were accepted.", ["provider"]
)
RESOLVED = Counter(
    "segue_ambiguous_resolved_total",
    "Ambiguous attempts resolved: how, as what.",
    ["provider", "rung", "verdict"],
)
CALLBACKS_HEARD = Counter(
    "segue_callbacks_heard_total",
    "Callbacks that reached the adapter, by what they turned out to be.",
    ["provider", "verdict"],
)
CALLBACKS_ARRIVE = Gauge(
    "segue_callbacks_arrive", "1 while callbacks reach us, so that polling is a backstop.", ["provider"]
)
LATE = Counter(
    "segue_attempts_learned_late_total",
    "Attempts of which one learned only after their end how they had ended: as what.",
    ["provider", "state", "kind"],
)
DUPLICATES_SUSPECTED = Counter(
    "segue_duplicates_suspected_total",
    "Runs found in the name of an attempt that has another one, or had given up.",
    ["provider"],
)
LATE_POSTS = Counter(
    "segue_late_posts_total", "POSTs not sent because the lease might no longer be held.", ["provider"]
)
