"""Flow: how messages and rows move through the services, and what holds them up."""

from __future__ import annotations

from typing import Final

from boards.dashboard import Dashboard, Row
from boards.panels import GREEN, GREY, NONE_IS_GOOD, RED, Column, graph, stat, table
from boards.queries import Prom, grown, p

_YES: Final = {0: ("away", RED), 1: ("there", GREEN)}
_BATCH: Final = "sum by (le, service) (rate(segue_batch_seconds_bucket[$__rate_interval]))"
_OURS: Final = 'service=~"gateway|orchestrator|log-sink|.+-adapter"'

_NOW: Final = Row(
    "Now",
    (
        stat(
            "Messages not yet read",
            "By all consumers together.",
            Prom(expr="sum(segue_consumer_lag_messages)"),
            graph=True,
        ),
        stat(
            "Oldest outbox row",
            "The age of the oldest message that is committed and not yet in Kafka.",
            Prom(expr="max(segue_outbox_oldest_seconds)"),
            unit="s",
            decimals=0,
            steps=((None, GREEN), (60, RED)),
        ),
        stat(
            "Oldest due row",
            "For how long the job or attempt has been due that is due longest.",
            Prom(expr="max(segue_due_oldest_seconds)"),
            unit="s",
            decimals=0,
            steps=((None, GREEN), (120, RED)),
        ),
        stat(
            "Dead letters",
            "Messages that no service could process, over the period shown.",
            Prom(expr=f"sum({grown('segue_dead_letters_total', '$__range')})", instant=True),
            decimals=0,
            steps=NONE_IS_GOOD,
        ),
        stat(
            "Consumers paused",
            "Services that do nothing, because their handler fails on most messages.",
            Prom(expr="sum(max by (service) (segue_dlq_limit_exceeded))"),
            steps=NONE_IS_GOOD,
        ),
        stat(
            "Topics unavailable",
            "Topics that a service cannot use: missing, with too few partitions, or without a consumer.",
            Prom(expr="sum(max by (topic) (segue_topic_unavailable))"),
            steps=NONE_IS_GOOD,
        ),
    ),
)

_MESSAGES: Final = Row(
    "Messages",
    (
        graph(
            "Lag, by service and topic",
            "Messages not yet read. Growth over minutes: add replicas, or find out what is slow.",
            Prom(
                expr="sum by (service, topic) (segue_consumer_lag_messages)",
                legend="{{service}} {{topic}}",
            ),
            decimals=0,
        ),
        graph(
            "Messages handled per second",
            "Messages handled and committed, by service.",
            Prom(
                expr="sum by (service) (rate(segue_messages_handled_total[$__rate_interval]))",
                legend="{{service}}",
            ),
            unit="cps",
            calcs=("mean", "max"),
        ),
        graph(
            "Lag of the tail",
            "Messages that the gateway has not read yet. Until it has, it answers from the log sink's tables.",
            Prom(expr="max by (topic) (segue_tail_lag_messages)", legend="{{topic}}"),
            decimals=0,
        ),
        graph(
            "Time of a batch, p95",
            "Nineteen of twenty batches took no longer, with their commit. Growth: PostgreSQL or Kafka slows down.",
            Prom(expr=p(0.95, _BATCH), legend="{{service}}"),
            unit="s",
            calcs=("mean", "max"),
        ),
        graph(
            "Batches tried again",
            "Within five minutes, because PostgreSQL or Kafka was away or slow.",
            Prom(expr=f"sum by (service) ({grown('segue_batch_retries_total', '5m')}) > 0", legend="{{service}}"),
            stacked=True,
            decimals=0,
            none="none was tried again",
            calcs=("max",),
        ),
        graph(
            "Dead letters, skipped and quarantined",
            "Messages that were not processed, within five minutes. Skipped ones are of a newer release.",
            Prom(
                expr=f"sum by (service, topic) ({grown('segue_dead_letters_total', '5m')}) > 0",
                legend="dead: {{service}} {{topic}}",
            ),
            Prom(
                expr=f"sum by (service, topic) ({grown('segue_messages_skipped_total', '5m')}) > 0",
                legend="skipped: {{service}} {{topic}}",
            ),
            Prom(
                expr=f"sum by (topic) ({grown('segue_sink_quarantined_total', '5m')}) > 0",
                legend="quarantined: {{topic}}",
            ),
            stacked=True,
            decimals=0,
            none="every message was processed",
            calcs=("max",),
        ),
    ),
)

_ROWS: Final = Row(
    "Rows",
    (
        graph(
            "Outbox rows",
            "Messages that are committed and not yet in Kafka.",
            Prom(expr="max by (service) (segue_outbox_rows)", legend="{{service}}"),
            decimals=0,
        ),
        graph(
            "Age of the oldest outbox row",
            "Seconds. A few at most; more means that Kafka does not take it.",
            Prom(expr="max by (service) (segue_outbox_oldest_seconds)", legend="{{service}}"),
            unit="s",
        ),
        graph(
            "Age of the oldest due row",
            "For how long the job or attempt has been due that is due longest. Growth: the loop does not keep up.",
            Prom(expr="max by (service) (segue_due_oldest_seconds)", legend="{{service}}"),
            unit="s",
        ),
        graph(
            "Events stored per second",
            "By the log sink, by topic.",
            Prom(expr="sum by (topic) (rate(segue_sink_events_total[$__rate_interval]))", legend="{{topic}}"),
            unit="cps",
            stacked=True,
            calcs=("mean", "max"),
        ),
        graph(
            "Outbox rows published per second",
            "By service.",
            Prom(
                expr="sum by (service) (rate(segue_outbox_published_total[$__rate_interval]))",
                legend="{{service}}",
            ),
            unit="cps",
            calcs=("mean", "max"),
        ),
        graph(
            "Rows and files deleted per hour",
            "By retention, by what they are.",
            Prom(
                expr=f"sum by (what) ({grown('segue_housekeeping_deleted_total', '1h')}) > 0",
                legend="{{what}}",
            ),
            decimals=0,
            none="nothing has expired",
            calcs=("max",),
        ),
    ),
)

_SERVICES: Final = Row(
    "Services and watchdogs",
    (
        table(
            "Services",
            "The replicas that answer, with their release.",
            Prom(expr="sum by (service, version) (segue_build_info)", instant=True),
            columns=(
                Column(name="service"),
                Column(name="version", width=110),
                Column(name="Value", shown="replicas", width=90),
            ),
            hidden=("Time",),
            sort=("service", False),
            width=8,
        ),
        table(
            "Dependencies",
            "What each service needs, as its /readyz sees it.",
            Prom(expr="min by (service, dependency) (segue_dependency_up)", instant=True),
            columns=(
                Column(name="service"),
                Column(name="dependency", width=150),
                Column(name="Value", shown="state", width=90, words=_YES),
            ),
            hidden=("Time",),
            sort=("state", False),
            width=8,
        ),
        graph(
            "Restarts within an hour",
            "By service. A process whose watchdog finds a part dead or stalled ends, and is started again: "
            "component_failed in its log says why.",
            Prom(
                expr=f"sum by (service) (changes(process_start_time_seconds{{{_OURS}}}[1h]))",
                legend="{{service}}",
            ),
            steps=True,
            decimals=0,
            calcs=("lastNotNull",),
        ),
        graph(
            "Memory",
            "The largest replica of each service.",
            Prom(expr=f"max by (service) (process_resident_memory_bytes{{{_OURS}}})", legend="{{service}}"),
            unit="bytes",
        ),
        graph(
            "Processor",
            "Cores in use, of all replicas of each service.",
            Prom(
                expr=f"sum by (service) (rate(process_cpu_seconds_total{{{_OURS}}}[$__rate_interval]))",
                legend="{{service}}",
            ),
            decimals=2,
            calcs=("mean", "max"),
        ),
        graph(
            "Clients turned away",
            "Connections and requests that a listener refused or ended within five minutes, by reason "
            "(docs/exposure.md).",
            Prom(
                expr=f"sum by (service, reason) ({grown('segue_http_turned_away_total', '5m')}) > 0",
                legend="{{service}} {{reason}}",
            ),
            stacked=True,
            decimals=0,
            none="nobody was turned away",
            calcs=("max",),
        ),
        graph(
            "Difference of the clocks",
            "How far the clock of a gateway is ahead of the database's and of Kafka's; negative: behind.",
            Prom(
                expr="segue_clock_difference_seconds",
                legend="{{instance}} {{reference}}",
            ),
            unit="s",
            signed=True,
            calcs=("lastNotNull",),
            width=12,
        ),
        graph(
            "Open connections",
            "Of each service's listeners; SEGUE_MAX_CONNECTIONS is the limit.",
            Prom(expr="sum by (service) (segue_http_connections)", legend="{{service}}"),
            decimals=0,
            colours={"other": GREY},
            width=12,
        ),
    ),
)

FLOW: Final = Dashboard(
    uid="segue-flow",
    title="Segue: flow",
    says="How messages and rows move through the services, and what holds them up.",
    rows=(_NOW, _MESSAGES, _ROWS, _SERVICES),
)
