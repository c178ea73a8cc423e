"""The metrics of the adapters."""

from __future__ import annotations

from typing import Final

from chassis.observability.metric import MetricList

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_PROVIDER: Final = {"provider": "the name of the provider"}
_STATE: Final = {"state": "`succeeded`, `failed` or `cancelled`"}
_KIND: Final = {"kind": "the kind of failure (`contracts/failures.py`); empty where there is none"}

METRICS: Final = MetricList("adapters")

ATTEMPTS_ENDED = METRICS.counter(
    "segue_attempts_ended_total",
    "Attempts that ended.",
    {**_PROVIDER, **_STATE, **_KIND},
    unit="attempts",
    watch="The share of `failed` by `kind`.",
)
ATTEMPT_SECONDS = METRICS.histogram(
    "segue_attempt_seconds",
    "From the intent to POST to the end of the attempt.",
    {**_PROVIDER, **_STATE},
    buckets=_SECONDS,
    watch="Growth: the provider slows down.",
)
CALL_SECONDS = METRICS.histogram(
    "segue_provider_call_seconds",
    "Duration of one action at the provider.",
    {**_PROVIDER, "action": "`post`, `check`, `cancel`, `search` or `collect`"},
    buckets=_SECONDS,
    watch="Growth: the provider's API, or the way to it, slows down.",
)
CALLS_IN_FLIGHT = METRICS.gauge(
    "segue_provider_calls_in_flight",
    "Actions at the provider in progress.",
    unit="actions",
    watch="A value that stays at its maximum: attempts wait for a free worker.",
)
AMBIGUOUS = METRICS.counter(
    "segue_attempts_ambiguous_total",
    "Submits for which it is unknown whether they were accepted.",
    _PROVIDER,
    unit="attempts",
    watch="A rate that persists: the connection to the provider is unreliable.",
)
RESOLVED = METRICS.counter(
    "segue_ambiguous_resolved_total",
    "Ambiguous attempts resolved.",
    {
        **_PROVIDER,
        "rung": "what resolved it: `callback`, `listing`, `answer`, `operator`, or `time` for the end of the grace or "
        "of the job",
        "verdict": "the state that followed, or the kind of failure",
    },
    unit="attempts",
    watch='`verdict="ambiguous_submission"`: an operator should resolve these attempts.',
)
CALLBACKS_HEARD = METRICS.counter(
    "segue_callbacks_heard_total",
    "Callbacks that reached the adapter.",
    {
        **_PROVIDER,
        "verdict": "`heard`: applied; `unknown`: no such attempt; `foreign`: of a second run; `swapped`: of a run that "
        "another attempt has; `unreadable`",
    },
    unit="callbacks",
    watch="`foreign`: two runs may be billed.",
)
CALLBACKS_ARRIVE = METRICS.gauge(
    "segue_callbacks_arrive",
    "1 while callbacks arrive, and runs are polled less often.",
    _PROVIDER,
    unit="0 or 1",
    watch="0 although `SEGUE_PUBLIC_URL` is set: the provider cannot reach it.",
)
LATE = METRICS.counter(
    "segue_attempts_learned_late_total",
    "Attempts whose outcome was learned after their end.",
    {**_PROVIDER, **_STATE, **_KIND},
    unit="attempts",
    watch="`succeeded`: runs that were paid for, but not used by their jobs.",
)
DUPLICATES_SUSPECTED = METRICS.counter(
    "segue_duplicates_suspected_total",
    "Runs found for an attempt that has another one, or that had been given up.",
    _PROVIDER,
    unit="runs",
    watch="Any increase: a second run may be billed.",
)
LATE_POSTS = METRICS.counter(
    "segue_late_posts_total",
    "POSTs not sent because the lease might no longer be held.",
    _PROVIDER,
    unit="POSTs",
    watch="Any increase: the process was held up for seconds.",
)
