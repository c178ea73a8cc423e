"""Starts the fal-adapter."""

from __future__ import annotations

from chassis.runtime.process import run_service
from fal_adapter.app import app
from fal_adapter.settings import FalSettings


def main() -> None:
    """Run the service until it is stopped."""
    run_service("fal-adapter", FalSettings, app)


if __name__ == "__main__":
    main()
