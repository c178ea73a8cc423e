"""The registry of metrics: each is defined once, with its labels and their values, its unit and its use.

Each member of the workspace defines its own in a module `metrics`. `docs/reference.py` makes docs/metrics.md from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import Counter, Gauge, Histogram


@dataclass(frozen=True, slots=True)
class Metric:
    """The entry of a metric in docs/metrics.md."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    meaning: str
    unit: str
    labels: Mapping[str, str]
    """The meaning of each label's values."""
    watch: str
    """What an operator should watch for."""
    services: str


NO_LABELS: Final[Mapping[str, str]] = {}


class MetricList:
    """The metrics of one member of the workspace, in the order in which they are defined."""

    def __init__(self, services: str) -> None:
        """`services` describes the services that have these metrics."""
        self.defined: list[Metric] = []
        self._services = services

    def counter(
        self,
        name: str,
        meaning: str,
        labels: Mapping[str, str] = NO_LABELS,
        *,
        unit: str,
        watch: str,
        services: str = "",
    ) -> Counter:
        """A counter; its name ends in `_total`."""
        self.defined.append(Metric(name, "counter", meaning, unit, labels, watch, services or self._services))
        return Counter(name, meaning, tuple(labels))

    def gauge(
        self,
        name: str,
        meaning: str,
        labels: Mapping[str, str] = NO_LABELS,
        *,
        unit: str,
        watch: str,
        services: str = "",
    ) -> Gauge:
        """A value that rises and falls."""
        self.defined.append(Metric(name, "gauge", meaning, unit, labels, watch, services or self._services))
        return Gauge(name, meaning, tuple(labels))

    def histogram(
        self,
        name: str,
        meaning: str,
        labels: Mapping[str, str],
        *,
        buckets: Sequence[float],
        watch: str,
        services: str = "",
    ) -> Histogram:
        """A distribution of durations in seconds; `buckets` are their upper bounds."""
        self.defined.append(Metric(name, "histogram", meaning, "seconds", labels, watch, services or self._services))
        return Histogram(name, meaning, tuple(labels), buckets=buckets)
