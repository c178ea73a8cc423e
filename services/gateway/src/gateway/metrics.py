"""The metrics of the gateway."""

from __future__ import annotations

from typing import Final

from chassis.observability.metric import MetricList

METRICS: Final = MetricList("gateway")

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
CLOCK_DIFFERENCE = METRICS.gauge(
    "segue_clock_difference_seconds",
    "How far this process's clock is ahead of another; negative where it is behind.",
    {"reference": "`database` or `kafka`"},
    unit="seconds",
    watch="More than a second: synchronize the clocks (NTP).",
)
