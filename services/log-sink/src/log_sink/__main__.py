"""Starts the log sink."""

from __future__ import annotations

from chassis.runtime.process import run_service
from log_sink.app import SERVICE, app
from log_sink.settings import SinkSettings


def main() -> None:
    """Run the service until it is stopped, and exit the process."""
    run_service(SERVICE, SinkSettings, app)


if __name__ == "__main__":
    main()
