"""What the log sink reads from its environment."""

from __future__ import annotations

from chassis.settings import ServiceSettings


class SinkSettings(ServiceSettings):
    """The settings that every service has; the sink needs no others."""
