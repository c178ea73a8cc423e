"""The metrics of the adapters."""

from __future__ import annotations

from typing import Final, get_args

from adapter_kit.port.outcomes import ErrorWord
from chassis.observability.metric import MetricList

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_PROVIDER: Final = {"provider": "the name of the provider"}
_STATE: Final = {"state": "`succeeded`, `failed` or `cancelled`"}
_ACTION: Final = "`post`, `check`, `cancel`, `search` or `collect`"
_KIND: Final = {"kind": "the kind of failure (`contracts/failures.py`); empty where there is none"}

METRICS: Final = MetricList("adapters")

ATTEMPTS_ENDED = METRICS.counter(
    "segue_attempts_ended_total",
    "Attempts that ended.",
    {**_PROVIDER, **_STATE, **_KIND},
    unit="attempts",
    watch="The share of `failed` by `kind`.",
)
ATTEMPTS = METRICS.gauge(
    "segue_attempts",
    "Attempts that have not ended, by state, read every 15 s.",
    {**_PROVIDER, "state": "`queued`, `submitting`, `ambiguous`, `running`, `collecting` or `cancelling`"},
    unit="attempts",
    watch="`ambiguous` that stays: jobs are held. Growth of `queued`: a limit or the breaker holds attempts back.",
)
AMBIGUOUS_OLDEST = METRICS.gauge(
    "segue_ambiguous_oldest_seconds",
    "Age of the oldest attempt that is ambiguous, from its order, read every 15 s; 0 if there is none.",
    _PROVIDER,
    unit="seconds",
    watch="More than the grace (`SEGUE_SUBMIT_GRACE_S`) by a minute: see `segue attempts --ambiguous`.",
)
ATTEMPT_COST = METRICS.counter(
    "segue_attempt_cost_usd_total",
    "What ended attempts cost by the catalogue's prices, counted when it is learned.",
    {**_PROVIDER, "model": "the provider's endpoint, as the catalogue names it"},
    unit="US dollars",
    watch="The rate: what the provider will bill.",
)
FETCH_FAILURES = METRICS.counter(
    "segue_fetch_failures_total",
    "Tries to fetch the outputs of a paid run that failed, and are repeated.",
    {**_PROVIDER, "reason": "why, as `outcome` of `segue_provider_calls_total`"},
    unit="tries",
    watch="A rate that persists: paid results cannot be fetched, and jobs fail at the end of their windows.",
)
FETCHES_FAILING = METRICS.gauge(
    "segue_fetches_failing",
    "Attempts whose last try to fetch outputs failed, and for which it is tried again, read every 15 s.",
    _PROVIDER,
    unit="attempts",
    watch="More than 0 for minutes: the storage of the provider, or the artifact store, cannot be reached.",
)
BREAKER_STATE = METRICS.gauge(
    "segue_breaker_state",
    "The circuit breakers, read every 15 s: 0 is closed, 1 half-open, 2 open.",
    {**_PROVIDER, "scope": "`provider`, or the name of the endpoint"},
    unit="0, 1 or 2",
    watch="2: nothing is sent there; `segue providers` says why.",
)
PROVIDER_UP = METRICS.gauge(
    "segue_provider_up",
    "0 while the provider's own breaker is open or its key is refused, read every 15 s.",
    _PROVIDER,
    unit="0 or 1",
    watch="0: jobs go to the other providers, or wait.",
)
KEY_REFUSED = METRICS.gauge(
    "segue_provider_key_refused",
    "1 while the provider refuses the key, by the last free probe or by the breaker, read every 15 s.",
    _PROVIDER,
    unit="0 or 1",
    watch="1: replace the key, or top up the account.",
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
    {**_PROVIDER, "action": _ACTION},
    buckets=_SECONDS,
    watch="Growth: the provider's API, or the way to it, slows down.",
)
PROVIDER_CALLS = METRICS.counter(
    "segue_provider_calls_total",
    "Actions at the provider that are done.",
    {
        **_PROVIDER,
        "action": _ACTION,
        "outcome": "`ok`, a kind of failure (`contracts/failures.py`), or why there was no usable answer: "
        + ", ".join(f"`{word}`" for word in get_args(ErrorWord)),
    },
    unit="actions",
    watch="The share of each outcome but `ok`: the provider, or the way to it, is in trouble.",
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
