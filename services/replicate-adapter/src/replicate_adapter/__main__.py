"""Starts the replicate-adapter."""

from __future__ import annotations

from chassis.runtime.process import run_service
from replicate_adapter.app import app
from replicate_adapter.settings import ReplicateSettings


def main() -> None:
    """Run the service until it is stopped."""
    run_service("replicate-adapter", ReplicateSettings, app)


if __name__ == "__main__":
    main()
