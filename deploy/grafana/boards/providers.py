"""Providers: whether each takes requests, how fast it is, and what is unclear about it."""

from __future__ import annotations

from typing import Final

from boards.dashboard import Dashboard, Row, of_labels
from boards.panels import (
    GREEN,
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
from boards.provider_doubts import ONES, UNCLEAR
from boards.queries import Prom, grown, p

_BREAKER: Final = {0: ("closed", GREEN), 1: ("half open", ORANGE), 2: ("open", RED)}
_CALLS: Final = f"segue_provider_calls_total{{{ONES}}}"
_SECONDS: Final = (
    f"sum by (le, provider, action) (rate(segue_provider_call_seconds_bucket{{{ONES}}}[$__rate_interval]))"
)
_RUNS: Final = f'sum by (le) (rate(segue_attempt_seconds_bucket{{{ONES}, state="succeeded"}}[$__rate_interval]))'

_FAILED: Final = grown(f'segue_attempts_ended_total{{{ONES}, state="failed"}}', "5m")
_FETCHES: Final = grown(f"segue_fetch_failures_total{{{ONES}}}", "5m")

_NOW: Final = Row(
    "Now",
    (
        stat(
            "Provider",
            "Down while the breaker of the whole provider is open or its key is refused. Jobs go to the next provider.",
            Prom(expr=f"min by (provider) (segue_provider_up{{{ONES}}})", legend="{{provider}}"),
            words={0: ("down", RED), 1: ("up", GREEN)},
            named=True,
            none="no adapter",
            width=6,
        ),
        stat(
            "Key",
            "Refused: the provider does not accept the key. Nothing is billed, and nothing is made there.",
            Prom(expr=f"max by (provider) (segue_provider_key_refused{{{ONES}}})", legend="{{provider}}"),
            words={0: ("accepted", GREEN), 1: ("refused", RED)},
            named=True,
            none="no adapter",
            width=6,
        ),
        stat(
            "Adapter",
            "Silent: not heard of for SEGUE_ADAPTER_SILENT_S, so nothing is ordered from it.",
            Prom(expr=f"max by (provider) (segue_adapter_silent{{{ONES}}})", legend="{{provider}}"),
            words={0: ("heard", GREEN), 1: ("silent", RED)},
            named=True,
            none="no orchestrator",
            width=6,
        ),
        stat(
            "Held as ambiguous",
            "Attempts of which nobody knows yet whether the provider accepted them. They are never sent again.",
            Prom(expr=f'sum(max by (provider) (segue_attempts{{{ONES}, state="ambiguous"}}))'),
            steps=NONE_IS_CALM,
            width=3,
        ),
        stat(
            "Fetches failing",
            "Paid runs whose output could not be fetched or stored at the last try, and is tried again.",
            Prom(expr=f"sum(max by (provider) (segue_fetches_failing{{{ONES}}}))"),
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
            Prom(expr=f"max by (provider, scope) (segue_breaker_state{{{ONES}}})", instant=True),
            columns=(
                Column(name="provider", width=110),
                Column(name="scope"),
                Column(name="Value", shown="state", width=110, words=_BREAKER),
            ),
            hidden=("Time",),
            sort=("state", True),
            width=8,
        ),
        graph(
            "Breakers over time",
            "0 closed, 1 half open, 2 open. Only breakers that were not closed within the period shown.",
            Prom(
                expr=f"max by (provider, scope) (segue_breaker_state{{{ONES}}}) and on (provider, scope) "
                f"max by (provider, scope) (max_over_time(segue_breaker_state{{{ONES}}}[$__range])) > 0",
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
            Prom(expr=f"sum by (state) (max by (provider, state) (segue_attempts{{{ONES}}}))", legend="{{state}}"),
            stacked=True,
            decimals=0,
            colours=STATUS,
        ),
        graph(
            "Attempts ended per minute",
            "By provider and by how they ended.",
            Prom(
                expr=f"sum by (provider, state) (rate(segue_attempts_ended_total{{{ONES}}}[$__rate_interval])) * 60",
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
                expr=f"sum by (provider, kind) ({_FAILED}) > 0",
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
                expr=f"sum by (provider, reason) ({_FETCHES}) > 0",
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
                expr=f"sum by (provider, outcome) (rate(segue_callbacks_total{{{ONES}}}[$__rate_interval])) * 60",
                legend="{{provider}} {{outcome}}",
            ),
            stacked=True,
            none="no callback: providers are polled",
            calcs=("mean", "max"),
        ),
    ),
)

PROVIDERS: Final = Dashboard(
    uid="segue-providers",
    title="Segue: providers",
    says="Whether each provider takes requests, how fast it is, and what is unclear about it.",
    variables=(of_labels("provider", "Provider", "segue_provider_up", "provider"),),
    rows=(_NOW, _HEALTH, _ATTEMPTS, UNCLEAR),
)
