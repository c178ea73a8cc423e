"""The names of everything the gateway counts."""

from __future__ import annotations

from prometheus_client import Counter

CALLBACKS = Counter("segue_callbacks_total", "Providers' webhooks, by what came of them.", ["provider", "outcome"])
