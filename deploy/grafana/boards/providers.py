"""Providers: whether each takes requests, how fast it is, and what is unclear about it."""

from __future__ import annotations

from typing import Final

from boards.dashboard import Dashboard, Row, of_labels
from boards.panels import (
    GREEN,
    GREY,
    NONE_IS_CALM,
    NONE_IS_GOOD,
    ORANGE,
    QUANTILES,
    RED,
    STATUS,
    Column,
    graph,
    stat,
    table,
)
from boards.queries import Prom, p

_ONES: Final = 'provider=~"$provider"'
_BREAKER: Final = {0: ("closed", GREEN), 1: ("half open", ORANGE), 2: ("open", RED)}
_CALLS: Final = f"segue_provider_calls_total{{{_ONES}}}"
_SECONDS: Final = (
    f"sum by (le, provider, action) (rate(segue_provider_call_seconds_bucket{{{_ONES}}}[$__rate_interval]))"
)
_RUNS: Final = f'sum by (le) (rate(segue_attempt_seconds_bucket{{{_ONES}, state="succeeded"}}[$__rate_interval]))'

_NOW: Final = Row(
    "Now",
    (
        stat(
            "Provider",
            "Down while the breaker of the whole provider is open or its key is refused. Jobs go to the next provider.",
            Prom(expr=f"min by (provider) (segue_provider_up{{{_ONES}}})", legend="{{provider}}"),
            words={0: ("down", RED), 1: ("up", GREEN)},
            named=True,
            none="no adapter",
            width=6,
        ),
        stat(
            "Key",
            "Refused: the provider does not accept the key. Nothing is billed, and nothing is made there.",
            Prom(expr=f"max by (provider) (segue_provider_key_refused{{{_ONES}}})", legend="{{provider}}"),
            words={0: ("accepted", GREEN), 1: ("refused", RED)},
            named=True,
            none="no adapter",
            width=6,
        ),
        stat(
            "Adapter",
            "Silent: not heard of for SEGUE_ADAPTER_SILENT_S, so nothing is ordered from it.",
            Prom(expr=f"max by (provider) (segue_adapter_silent{{{_ONES}}})", legend="{{provider}}"),
            words={0: ("heard", GREEN), 1: ("silent", RED)},
            named=True,
            none="no orchestrator",
            width=6,
        ),
        stat(
            "Held as ambiguous",
            "Attempts of which nobody knows yet whether the provider accepted them. They are never sent again.",
            Prom(expr=f'sum(max by (provider) (segue_attempts{{{_ONES}, state="ambiguous"}}))'),
            steps=NONE_IS_CALM,
            width=3,
        ),
        stat(
            "Fetches failing",
            "Paid runs whose output could not be fetched or stored at the last try, and is tried again.",
            Prom(expr=f"sum(max by (provider) (segue_fetches_failing{{{_ONES}}}))"),
            steps=NONE_IS_GOOD,
            width=3,
        ),
    ),
)

_HEALTH: Final = Row(
    "Health",
    (
        table(
            "Breakers",
            "The breaker of each provider, and of each endpoint that has been called. An open one lets nothing pass, "
            "and jobs go elsewhere; a half open one lets one paid run pass as a probe.",
            Prom(expr=f"max by (provider, scope) (segue_breaker_state{{{_ONES}}})", instant=True),
            columns=(
                Column(name="provider", width=110),
                Column(name="scope"),
                Column(name="Value", shown="state", width=110, words=_BREAKER),
            ),
            hidden=("Time",),
            none="no breaker yet",
            sort=("state", True),
            width=8,
        ),
        graph(
            "Breakers over time",
            "0 closed, 1 half open, 2 open. Only breakers that were not closed within the period shown.",
            Prom(
                expr=f"max by (provider, scope) (segue_breaker_state{{{_ONES}}}) and on (provider, scope) "
                f"max by (provider, scope) (max_over_time(segue_breaker_state{{{_ONES}}}[$__range])) > 0",
                legend="{{provider}} {{scope}}",
            ),
            words=_BREAKER,
            steps=True,
            most=2,
            none="every breaker is closed",
            calcs=("lastNotNull",),
        ),
        graph(
            "Calls per second, by outcome",
            "Calls to the providers. Everything but ok is an error: a kind of failure, or what became of the call.",
            Prom(
                expr=f"sum by (provider, outcome) (rate({_CALLS}[$__rate_interval]))",
                legend="{{provider}} {{outcome}}",
            ),
            unit="reqps",
            calcs=("mean", "max"),
        ),
        graph(
            "Calls that fail, by action",
            "Failed calls as a share of all, by action: post submits a run, check asks how it stands, collect fetches "
            "its output, search looks for a lost run.",
            Prom(
                expr=f'sum by (provider, action) (rate({_CALLS[:-1]}, outcome!="ok"}}[$__rate_interval])) '
                f"/ (sum by (provider, action) (rate({_CALLS}[$__rate_interval])) > 0)",
                legend="{{provider}} {{action}}",
            ),
            unit="percentunit",
            most=1,
            none="no call failed",
            calcs=("mean", "max"),
        ),
        graph(
            "Latency of calls, p95",
            "Nineteen of twenty calls took no longer, by action.",
            Prom(expr=p(0.95, _SECONDS), legend="{{provider}} {{action}}"),
            unit="s",
            calcs=("mean", "max"),
        ),
        graph(
            "Calls in flight",
            "Actions at the provider in progress, of each adapter; SEGUE_PROVIDER_CALLS is the limit.",
            Prom(expr="sum by (service) (segue_provider_calls_in_flight)", legend="{{service}}"),
            decimals=0,
        ),
    ),
)

_ATTEMPTS: Final = Row(
    "Attempts",
    (
        graph(
            "Attempts under way, by state",
            "Attempts that have not ended. Queued ones wait in Segue, because of limits or of Retry-After.",
            Prom(expr=f"sum by (state) (max by (provider, state) (segue_attempts{{{_ONES}}}))", legend="{{state}}"),
            stacked=True,
            decimals=0,
            colours=STATUS,
        ),
        graph(
            "Attempts ended per minute",
            "By provider and by how they ended.",
            Prom(
                expr=f"sum by (provider, state) (rate(segue_attempts_ended_total{{{_ONES}}}[$__rate_interval])) * 60",
                legend="{{provider}} {{state}}",
            ),
            stacked=True,
            none="no attempt ended",
            calcs=("mean", "max"),
        ),
        graph(
            "Failed attempts, by kind",
            "Attempts that failed within five minutes, by the kind of failure.",
            Prom(
                expr=f'sum by (provider, kind) (increase(segue_attempts_ended_total{{{_ONES}, state="failed"}}[5m]))'
                " > 0",
                legend="{{provider}} {{kind}}",
            ),
            stacked=True,
            decimals=0,
            none="no attempt failed",
            calcs=("max",),
        ),
        graph(
            "Time of an attempt",
            "From the intent to submit to the stored output, of attempts that succeeded.",
            Prom(expr=p(0.5, _RUNS), legend="p50"),
            Prom(expr=p(0.95, _RUNS), legend="p95"),
            Prom(expr=p(0.99, _RUNS), legend="p99"),
            unit="s",
            colours=QUANTILES,
            none="no attempt succeeded",
            calcs=("mean", "max"),
        ),
        graph(
            "Failed fetches, by reason",
            "Tries to fetch the output of a paid run that failed within five minutes. The run is billed all the same.",
            Prom(
                expr=f"sum by (provider, reason) (increase(segue_fetch_failures_total{{{_ONES}}}[5m])) > 0",
                legend="{{provider}} {{reason}}",
            ),
            stacked=True,
            decimals=0,
            none="no fetch failed",
            calcs=("max",),
        ),
        graph(
            "Callbacks per minute, by outcome",
            "Callbacks that the gateway received. bad-signature or signing-keys-away in place of taken: see "
            "callback_rejected in the log.",
            Prom(
                expr=f"sum by (provider, outcome) (rate(segue_callbacks_total{{{_ONES}}}[$__rate_interval])) * 60",
                legend="{{provider}} {{outcome}}",
            ),
            stacked=True,
            none="no callback: providers are polled",
            calcs=("mean", "max"),
        ),
    ),
)

_UNCLEAR: Final = Row(
    "What is unclear",
    (
        graph(
            "Ambiguous attempts, by provider",
            "Attempts whose answer to the submit was lost, until a listing, a callback, an operator or time resolves "
            "them.",
            Prom(
                expr=f'max by (provider) (segue_attempts{{{_ONES}, state="ambiguous"}})',
                legend="{{provider}}",
            ),
            decimals=0,
            none="no attempt is ambiguous",
        ),
        graph(
            "Age of the oldest ambiguous attempt",
            "How long the oldest of them has been held.",
            Prom(
                expr=f"max by (provider) (segue_ambiguous_oldest_seconds{{{_ONES}}})",
                legend="{{provider}}",
            ),
            unit="s",
        ),
        graph(
            "Resolved, and how",
            "Ambiguous attempts resolved within five minutes: by what, and what followed. ambiguous_submission: "
            "nobody knows, and an operator should look.",
            Prom(
                expr=f"sum by (rung, verdict) (increase(segue_ambiguous_resolved_total{{{_ONES}}}[5m])) > 0",
                legend="{{rung}}: {{verdict}}",
            ),
            stacked=True,
            decimals=0,
            none="none was resolved",
            calcs=("max",),
        ),
        stat(
            "Second runs suspected",
            "Runs found for an attempt that has another one, over the period shown. Each may be billed.",
            Prom(expr=f"sum(increase(segue_duplicates_suspected_total{{{_ONES}}}[$__range]))", instant=True),
            steps=NONE_IS_GOOD,
            decimals=0,
            width=8,
        ),
        stat(
            "Outcomes learned late",
            "Attempts whose outcome was learned after their end, over the period shown. Succeeded ones are paid for, "
            "and their jobs went on without them.",
            Prom(
                expr=f"sum by (state) (increase(segue_attempts_learned_late_total{{{_ONES}}}[$__range]))",
                legend="{{state}}",
                instant=True,
            ),
            steps=((None, GREY), (1e-9, ORANGE)),
            decimals=0,
            named=True,
            none="none",
            width=8,
        ),
        stat(
            "Submits not sent in time",
            "Submits that were not sent, because the process was held up until its lease might be over; over the "
            "period shown.",
            Prom(expr=f"sum(increase(segue_late_posts_total{{{_ONES}}}[$__range]))", instant=True),
            steps=NONE_IS_CALM,
            decimals=0,
            width=8,
        ),
    ),
)

PROVIDERS: Final = Dashboard(
    uid="segue-providers",
    title="Segue: providers",
    says="Whether each provider takes requests, how fast it is, and what is unclear about it.",
    variables=(of_labels("provider", "Provider", "segue_provider_up", "provider"),),
    rows=(_NOW, _HEALTH, _ATTEMPTS, _UNCLEAR),
)
